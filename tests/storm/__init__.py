"""The storm: load that counts every byte while a server is reloaded, recycled, upgraded or shot at.

`wire` is one connection and what can be wrong with it, `tally` what was seen, `load` the clients,
`tree` the server's processes, `actions` what is done to the server meanwhile. Running the package
runs all of it; tests/contract/test_storm.py is the short version, once per engine.
"""
