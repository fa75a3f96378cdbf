"""Publishing: the table with its vectors, whole or not at all."""

from batchembed.publish.finishing import finish, roll_forward
from batchembed.publish.staging import Form, Staged, stage

__all__ = ["Form", "Staged", "finish", "roll_forward", "stage"]
