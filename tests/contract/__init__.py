"""What every engine must do alike: each test here runs once per pair of engines that is built.

The fixtures are in `conftest.py`; applications of these tests are in tests/apps/contract_*.
"""
