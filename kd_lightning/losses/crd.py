"""Contrastive representation distillation: match the student's features to the teacher's of the same image."""

from collections.abc import Sequence
from math import log

import torch
from torch import Tensor, nn
from torch.nn import functional

from kd_lightning.data.loader import Batch
from kd_lightning.errors import UserError
from kd_lightning.losses.base import Targets, to_float32
from kd_lightning.losses.layers import LayerLoss, Shape, Size
from kd_lightning.losses.logits import require_positive
from kd_lightning.machine.processes import gathered, process_count, process_rank
from kd_lightning.networks.layers import LOGITS, Outputs, Shapes

DRAW_RANGE = 2**62
"""Range of the random integers: so much larger than the number of rows that their remainders are uniform."""


def contrast(positive: Tensor, negatives: Tensor, level: Tensor, count: int) -> Tensor:
    """Return ``- log h(s+) - K mean log(1 - h(s-))``, averaged over the batch, with ``h(s) = e^s / (e^s + K e^level)``.

    The noise-contrastive loss of https://arxiv.org/abs/1910.10699: h is the probability that a pair shows the same
    image and not one of K others.

    Args:
        positive: Similarities over the temperature, s+, (B,).
        negatives: Similarities to other images, s-, (B, M); M may be 0.
        level: Logarithm of the mean of ``e^s``, a scalar.
        count: K, the weight of all negatives together, whatever M is.

    Returns:
        A scalar, 0 or more.
    """
    shift = level + log(count)
    total = functional.logsigmoid(positive - shift)
    if negatives.shape[1]:
        total = total + count * functional.logsigmoid(shift - negatives).mean(1)
    return -total.mean()


def rows_of_other_classes(labels: Tensor, count: int, by_class: Tensor, ends: Tensor) -> Tensor:
    """Draw rows uniformly, with replacement, from all images of other classes than an image's.

    Args:
        labels: The images' class indices, (B,), int64.
        count: Rows to draw for each image.
        by_class: All rows, sorted by class, (N,), int64; two classes or more.
        ends: Where each class begins in that order, and finally N, (C + 1,), int64.

    Returns:
        (B, count), int64.
    """
    first, last = ends[labels].unsqueeze(1), ends[labels + 1].unsqueeze(1)  # (B, 1)
    own = last - first
    processes, rank = process_count(), process_rank()  # its images are every so many of the whole step's
    all_drawn = torch.randint(DRAW_RANGE, (len(labels) * processes, count), device=labels.device)
    drawn = all_drawn[rank::processes] % (len(by_class) - own)
    return by_class[drawn + own * (drawn >= first)]  # skips the image's own class


class CRD(LayerLoss):
    """The noise-contrastive loss between features: each image's own pair against many other images in a memory bank.

    Tian et al., ICLR 2020, https://arxiv.org/abs/1910.10699. Trained linear embeddings of both networks' features, of
    length one, are compared with the other network's embeddings of the same image and of K others, which a memory bank
    holds: ``- log h(s+) - sum_k log(1 - h(s_k))``, ``h(s) = e^(s / T) / (e^(s / T) + K Z)``, for the student against
    the teacher's memory and for the teacher against the student's. Z is the mean of e^(s / T) in the first batch. The K
    others are drawn from all images of other classes, as in the authors' code, but with replacement, which makes no
    difference on average. After each batch its rows of the memory move towards its embeddings, by half with
    ``momentum`` 0.5. It helps where what matters is which images are alike, and time and memory allow.

    A weight of 0.8 beside labels and soft targets is the reference setting for 100 classes, with the penultimate layers
    (``pool`` of a ResNet, ``classifier.1`` of LightNN); maps are averaged over their positions. It trains ``(C + C' +
    2) 128`` parameters. It is expensive: the memory of N images takes ``2 N 128`` numbers (51 MB for CIFAR-10) on the
    device and in each checkpoint; a step takes ``2 B N`` similarities (another 51 MB for a batch of 128) in ``512 B N``
    multiply-adds, several times the cost of LightNN. The teacher cache holds C' numbers per image.

    Validation and test use no memory: an image is compared with the teacher's embeddings of itself and of the others in
    its batch, which count as K; nothing is drawn or changed. Images that are not trained on, such as held-out
    validation images, keep their initial random directions in the memory. Under DDP all processes share one Z and
    update the memory with the batches of all; before every step DDP broadcasts the first one's memory, as it does with
    all buffers. CRD refuses mixed images.

    Args:
        student: The student's layer: one that gives a vector, or a map.
        dimensions: Dimensions of the embeddings, 1 or more.
        negatives: K, 1 or more.
        temperature: T, above 0.
        momentum: Share of a stored embedding that is kept when its image is seen again, in [0, 1).

    Raises:
        UserError: A layer gives neither a vector nor a map, or an option is out of its range.
    """

    short = "crd"
    needs_labels = needs_hard_labels = True
    want = "pooled"
    student_memory: Tensor
    teacher_memory: Tensor
    by_class: Tensor
    ends: Tensor
    levels: Tensor
    batches: Tensor

    def __init__(
        self,
        student: str,
        teacher: str | None = None,
        dimensions: int = 128,
        negatives: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
        weight: float = 0.8,
        warm_up: int = 0,
    ) -> None:
        super().__init__(student, teacher, weight, warm_up)
        for name, value in (("dimensions", dimensions), ("negatives", negatives)):
            if value < 1:
                raise UserError(f"{name} of CRD is {value}, but it must be 1 or more.")
        if not 0 <= momentum < 1:
            raise UserError(f"momentum of CRD is {momentum}, but it must be 0 or more and below 1.")
        self.dimensions = dimensions
        self.negatives = negatives
        self.temperature = require_positive(self, "temperature", temperature)
        self.momentum = momentum

    def build(self, student: Shapes, teacher: Shapes | None) -> None:
        """Create what depends on the layers, and where each class begins."""
        super().build(student, teacher)
        self.register_buffer("ends", torch.zeros(student[LOGITS][0] + 1, dtype=torch.int64), persistent=False)

    def size(self, student: Shape, teacher: Shape) -> Size:
        """Return the height and width that maps are averaged to."""
        return 1, 1

    def connect(self, pairs: Sequence[tuple[Shape, Shape]]) -> None:
        """Create the two embeddings and empty memories."""
        [((channels, *_), (target, *_))] = pairs
        self.student_embedding = nn.Linear(channels, self.dimensions)
        self.teacher_embedding = nn.Linear(target, self.dimensions)
        self.register_buffer("student_memory", torch.zeros(0, self.dimensions))
        self.register_buffer("teacher_memory", torch.zeros(0, self.dimensions))
        self.register_buffer("by_class", torch.zeros(0, dtype=torch.int64), persistent=False)
        self.register_buffer("levels", torch.zeros(2))  # log Z against the teacher's memory, and the student's
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def start(self, images: int, labels: Tensor | None) -> None:
        """Fill the memories with random directions, and sort the images by class.

        Raises:
            UserError: All images are of one class.
        """
        if labels is not None:
            self._sort(labels)
        generator = torch.Generator().manual_seed(torch.initial_seed())
        self.student_memory, self.teacher_memory = (
            functional.normalize(torch.randn(images, self.dimensions, generator=generator), dim=1).to(memory)
            for memory in (self.student_memory, self.teacher_memory)
        )
        self.levels.zero_()
        self.batches.zero_()

    def _sort(self, labels: Tensor) -> None:
        unlabelled = int((labels < 0).sum())  # the first ones in the order of the labels
        counts = torch.bincount(labels[labels >= 0], minlength=len(self.ends) - 1)
        if (counts > 0).sum() < 2:
            raise UserError(
                "CRD compares images with those of other classes, but all training images are of one class; give more."
            )
        self.by_class = labels.argsort(stable=True)[unlabelled:].to(self.by_class)
        self.ends[1:] = counts.cumsum(0)

    def forward(self, student: Outputs, target: Targets, batch: Batch) -> Tensor:
        """Return the sum of both directions, averaged over the batch, a scalar; update the memories in training."""
        [(own, other)] = self.pairs(student, target)
        own, other = self.student_embedding(own.flatten(1)), self.teacher_embedding(other.flatten(1))
        with torch.autocast(own.device.type, enabled=False):
            own, other = (functional.normalize(to_float32(values), dim=1) for values in (own, other))
            if not self.training:
                return self.compare(own, other)
            drawn = rows_of_other_classes(batch.labels, self.negatives, self.by_class, self.ends)
            memories = (to_float32(memory.clone()) for memory in (self.teacher_memory, self.student_memory))
            loss = self._loss((own, other), tuple(memories), torch.cat([batch.rows.unsqueeze(1), drawn], 1))
            self._update_memories(batch.rows, own, other)
        return loss

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of a batch's embeddings, (B, D) each, that are compared with each other, a scalar."""
        places = torch.arange(len(student), device=student.device)
        rows = (places.unsqueeze(1) + places) % len(student)  # each image's own, then those of the others
        return self._loss((student, teacher), (teacher, student), rows)

    def _loss(self, embeddings: Sequence[Tensor], memories: Sequence[Tensor], rows: Tensor) -> Tensor:
        """Return the loss of both networks' embeddings.

        Args:
            embeddings: The student's and the teacher's, (B, D) each.
            memories: What each is compared with, (N, D).
            rows: Rows of the memories: each image's own, then those of others, (B, 1 + M).
        """
        # (B, D) x (N, D) -> (B, N) -> (B, 1 + M)
        similarities = [
            (embedding / self.temperature @ memory.T).gather(1, rows)
            for embedding, memory in zip(embeddings, memories, strict=True)
        ]
        levels = self._levels(similarities)
        parts = [
            contrast(found[:, 0], found[:, 1:], level, self.negatives)
            for found, level in zip(similarities, levels, strict=True)
        ]
        return parts[0] + parts[1]

    @torch.no_grad()
    def _levels(self, similarities: Sequence[Tensor]) -> Tensor:
        """Return log Z of the first training batch; before that one, of this batch."""
        found = torch.stack([part.flatten().logsumexp(0) - log(part.numel()) for part in similarities]).unsqueeze(0)
        found = gathered(found) if self.training else found  # (processes, 2)
        now = found.logsumexp(0) - log(len(found))
        levels = torch.where(self.batches > 0, self.levels, now.to(self.levels))
        if self.training:
            self.levels.copy_(levels)
            self.batches.add_(1)
        return levels

    @torch.no_grad()
    def _update_memories(self, rows: Tensor, own: Tensor, other: Tensor) -> None:
        """Move the rows of the memories towards the embeddings of all processes."""
        rows = gathered(rows)
        for memory, seen in ((self.student_memory, own), (self.teacher_memory, other)):
            moved = self.momentum * memory[rows] + (1 - self.momentum) * gathered(seen)
            memory.index_copy_(0, rows, functional.normalize(moved, dim=1).to(memory))
