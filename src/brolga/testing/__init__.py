"""A registry for tests: the embedded registry with planned faults, or in the role of another one.

plugin         the pytest fixture `brolga_registry`
faults         the faults, as values
injector, run  the plan in force, and what happened
middleware     the faults of a request, injected into its body and its response
emulation/     known registries, as a table, and the middleware that honours it
process        a registry that can be killed and restarted
"""
