"""Static files through the real process: the plain executable, and beside an application."""
