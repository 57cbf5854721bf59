"""A registry for tests: the embedded registry with planned faults, or in the role of another one.

plugin               the pytest fixture `brolga_registry`
faults, registries   values: the faults; known registries as profiles
injector, run        the plan in force, and what happened
emulation/           the middleware that behaves as a profile
middleware           the faults of a request, injected into its body and its response
process              a registry that can be killed and restarted
"""
