"""Small wrong changes to the gateway, each killed by a named test: `make mutants`.

A test that cannot fail proves nothing. Each mutant breaks one promise in one place; it is applied to a copy of the
tree, and its test must fail there, and pass without it. The table in docs/guarantees.md is made from this list.
"""
