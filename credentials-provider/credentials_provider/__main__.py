"""`python -m credentials_provider` is the console script."""

from credentials_provider.cli import main

if __name__ == "__main__":
    main()
