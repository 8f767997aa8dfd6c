"""Facts and orders, and the bus they travel on."""

from mlops_lab.events.message import Message
from mlops_lab.events.outbox import Outbox, Pending, relay
from mlops_lab.events.port import Delivery, EventBus, Topics
from mlops_lab.events.topics import ANSWERS, CONTROL, FEEDBACK, OBSERVATIONS, REFERENCES, SCHEDULE

__all__ = [
    "ANSWERS",
    "CONTROL",
    "FEEDBACK",
    "OBSERVATIONS",
    "REFERENCES",
    "SCHEDULE",
    "Delivery",
    "EventBus",
    "Message",
    "Outbox",
    "Pending",
    "Topics",
    "relay",
]
