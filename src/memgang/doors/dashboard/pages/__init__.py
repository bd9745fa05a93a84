"""Pages: each a module with ``page(view)``, which draws what it is given."""
