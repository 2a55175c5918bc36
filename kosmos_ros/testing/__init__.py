"""An engine that follows a script, for tests of everything that calls an engine."""
