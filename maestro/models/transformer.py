"""The 6+6-layer translation Transformer of the paper (Vaswani et al. 2017; App. D).

Post-norm layers, model width 512, 8 heads, feed-forward 2048. With a vocabulary of
9,521 symbols there are two counts in the paper: 48,978,432 parameters (Table 2: no
attention biases, the output layer tied to the embedding) and 53,899,569 (Tables 3, 14:
biases everywhere, an output layer of its own). Attention has four linear layers of its
own, q, k, v and o, so that each is factorised.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

PAD = 1  # the vocabulary's padding symbol


class Attention(nn.Module):
    """Multi-head attention of (B, T, width) queries over (B, S, width) keys."""

    def __init__(self, width, heads, dropout, bias):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q = nn.Linear(width, width, bias)
        self.k = nn.Linear(width, width, bias)
        self.v = nn.Linear(width, width, bias)
        self.o = nn.Linear(width, width, bias)

    def forward(self, x, memory, mask):
        q, k, v = self._split(self.q(x)), self._split(self.k(memory)), self.v(memory)
        dropout = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, self._split(v), mask, dropout)
        return self.o(out.transpose(1, 2).flatten(2))  # (B, T, width)

    def _split(self, x):
        """(B, T, width) -> (B, heads, T, width / heads)."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class Layer(nn.Module):
    """One encoder layer, or with ``cross`` one decoder layer; norm after each part."""

    def __init__(self, width, heads, inner, dropout, bias, cross):
        super().__init__()
        self.attention = Attention(width, heads, dropout, bias)
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        if cross:
            self.cross = Attention(width, heads, dropout, bias)
            self.norm_cross = nn.LayerNorm(width, eps=1e-6)
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, mask, memory=None, memory_mask=None):
        x = self.norm1(x + self.dropout(self.attention(x, x, mask)))
        if memory is not None:
            seen = self.cross(x, memory, memory_mask)
            x = self.norm_cross(x + self.dropout(seen))
        return self.norm2(x + self.dropout(self.fc2(F.relu(self.fc1(x)))))


class Transformer(nn.Module):
    """Source (B, S) and target (B, T) symbols -> logits (B, T, vocabulary).

    Position t of the logits predicts the symbol after target position t. tied: the
    count of Table 2 (see the module), else that of Tables 3 and 14.
    """

    def __init__(
        self,
        classes=9521,
        width=512,
        layers=6,
        heads=8,
        inner=2048,
        dropout=0.1,
        tied=False,
        longest=200,
    ):
        super().__init__()
        self.tied = tied
        self.embedding = nn.Embedding(classes, width, padding_idx=PAD)
        self.register_buffer("positions", sinusoids(longest, width), persistent=False)
        sizes = width, heads, inner, dropout, not tied
        self.encoder = nn.ModuleList(Layer(*sizes, False) for _ in range(layers))
        self.decoder = nn.ModuleList(Layer(*sizes, True) for _ in range(layers))
        self.norm_encoder = nn.LayerNorm(width, eps=1e-6)
        self.norm_decoder = nn.LayerNorm(width, eps=1e-6)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, classes, bias=not tied)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
        if tied:
            self.output.weight = self.embedding.weight

    def forward(self, source, target):
        return self.decode(target, self.encode(source), source)

    def encode(self, source):
        """(B, S) symbols -> (B, S, width)."""
        mask = (source != PAD)[:, None, None]  # (B, 1, 1, S)
        x = self.norm_encoder(self._embed(source))
        for layer in self.encoder:
            x = layer(x, mask)
        return x

    def decode(self, target, memory, source, last=False):
        """Logits (B, T, vocabulary), each position seeing the ones before it only.

        last: only those of the last position, (B, vocabulary).
        """
        length = target.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=target.device)
        mask = (target != PAD)[:, None, None] & causal.tril()
        memory_mask = (source != PAD)[:, None, None]
        x = self.norm_decoder(self._embed(target))
        for layer in self.decoder:
            x = layer(x, mask, memory, memory_mask)
        if last:
            x = x[:, -1]
        if self.tied:
            x = x * x.shape[-1] ** -0.5
        return self.output(x)

    def _embed(self, symbols):
        return self.dropout(
            self.embedding(symbols) + self.positions[: symbols.shape[1]]
        )


def sinusoids(length, width):
    """Sinusoidal position codes (length, width)."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angles = torch.arange(length)[:, None] * rates
    return torch.stack((angles.sin(), angles.cos()), 2).flatten(1)
