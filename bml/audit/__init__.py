"""The leak audit: everything after a moment is scrambled, and what was known by then must not change by a byte."""
