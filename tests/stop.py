"""`python -m tests.stop`: stop the test stack, whatever is left of it, and drop its data."""

import os

from compose.embedded import Stack
from inventory.settings import Settings
from tests.conftest import TEST_ENVIRONMENT

if __name__ == "__main__":
    os.environ.update(TEST_ENVIRONMENT)
    Stack(Settings()).reset()
