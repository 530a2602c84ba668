"""`python -m tests.stop`: stop the test stacks, whatever is left of them, and drop their data."""

import os

from compose.embedded import Stack
from inventory.settings import Settings
from tests.chaos.ports import STACK_DIR
from tests.chaos.proxied_stack import ProxiedStack
from tests.conftest import TEST_ENVIRONMENT

if __name__ == "__main__":
    if STACK_DIR.exists():
        ProxiedStack().reset()
    os.environ.update(TEST_ENVIRONMENT)
    Stack(Settings()).reset()
