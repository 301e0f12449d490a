"""What only the gevent loop engine has; what all engines have in common is in tests/contract."""
