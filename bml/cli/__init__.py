"""The command line. Modules here import heavy things inside functions: ``bml --help`` stays light."""
