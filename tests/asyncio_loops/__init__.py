"""What only loops with asyncio's interface have; tests/contract has what all engines share."""
