"""Bridges to other libraries; each imports the other library only when it is used."""
