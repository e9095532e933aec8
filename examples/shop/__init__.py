"""A small shop: an API and a page, instrumented by one line, with faults that the environment switches on."""
