"""LeNet-5 with ReLU (App. D.2, Table 6): 44,426 parameters, 281,640 MACs.

Table 6 prints padding 1 and a first pooling of stride 1; only padding 0 and stride 2
give its 256 features and the paper's counts. No ReLU follows the logits.
"""

from torch import nn
from torch.nn import functional as F


class LeNet(nn.Module):
    """Grey images (B, 1, 28, 28) -> logits (B, classes)."""

    def __init__(self, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(256, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def forward(self, x):
        # ReLU and max-pooling commute; behind it, ReLU has a quarter of the work
        x = F.relu(F.max_pool2d(self.conv1(x), 2))  # (B, 6, 12, 12)
        x = F.relu(F.max_pool2d(self.conv2(x), 2))  # (B, 16, 4, 4)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc3(F.relu(self.fc2(x)))
