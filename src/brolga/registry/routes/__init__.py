"""The handlers of the registry's routes. They know no files."""
