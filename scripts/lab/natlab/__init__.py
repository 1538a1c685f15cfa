"""A NAT laboratory made of Linux network namespaces; see ../natlab.py."""
