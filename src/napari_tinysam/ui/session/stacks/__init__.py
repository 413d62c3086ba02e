"""Objects of planes become objects of a stack."""
