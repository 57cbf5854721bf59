"""A registry for tests: the embedded registry with planned faults, or emulating another one."""
