"""The one loop: collect, learn, train, evaluate."""
