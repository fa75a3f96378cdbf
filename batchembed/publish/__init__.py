"""Publishing: the table with its vectors, whole or not at all."""

from batchembed.publish.ahead import Ahead
from batchembed.publish.finishing import finish, is_begun, roll_forward
from batchembed.publish.staging import Form, Sides, Staged, stage, stage_rejects

__all__ = [
    "Ahead",
    "Form",
    "Sides",
    "Staged",
    "finish",
    "is_begun",
    "roll_forward",
    "stage",
    "stage_rejects",
]
