"""What the tests share: a running server, raw clients, and the look around after each test."""
