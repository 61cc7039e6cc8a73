"""What pictures are of: one object a domain, and the code of those that ship."""
