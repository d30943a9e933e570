"""Layers that own parameters, and derivatives of energies."""

from dreibein.nn.attention import FrameAttention, attend, global_frame_attention
from dreibein.nn.committee import Committee, FrozenCommittee, freeze
from dreibein.nn.convolutions import EdgeConv, FrameSequential, GCNConv
from dreibein.nn.derivatives import hessian
from dreibein.nn.embeddings import (
    AxialBessel,
    AxialGaussian,
    EdgeEmbedding,
    HarmonicEmbedding,
    SphereEmbedding,
    UnitEmbedding,
)
from dreibein.nn.frame_message_passing import FrameMessagePassing, carried
from dreibein.nn.frame_predictor import FramePredictor
from dreibein.nn.frozen import BACKENDS, FrozenPotential, backends_of
from dreibein.nn.learned_transition import LearnedTransition
from dreibein.nn.linear import EdgeLinear, HeadedLinear, SpeciesLinear
from dreibein.nn.localization import Localized, SmoothConvolution, localize, smooth_convolution
from dreibein.nn.point_clouds import (
    DynamicEdgeConv,
    FeaturePropagation,
    PointCloud,
    SetAbstraction,
)
from dreibein.nn.point_frames import PointFrames, centered
from dreibein.nn.potential import Potential
from dreibein.nn.radial import Bessel, Envelope, ExpNormal, Gaussian, radial_basis

__all__ = [
    "BACKENDS",
    "AxialBessel",
    "AxialGaussian",
    "Bessel",
    "Committee",
    "DynamicEdgeConv",
    "EdgeConv",
    "EdgeEmbedding",
    "EdgeLinear",
    "Envelope",
    "ExpNormal",
    "FeaturePropagation",
    "FrameAttention",
    "FrameMessagePassing",
    "FramePredictor",
    "FrameSequential",
    "GCNConv",
    "FrozenCommittee",
    "FrozenPotential",
    "Gaussian",
    "HarmonicEmbedding",
    "HeadedLinear",
    "LearnedTransition",
    "Localized",
    "PointCloud",
    "PointFrames",
    "Potential",
    "SetAbstraction",
    "SmoothConvolution",
    "SpeciesLinear",
    "SphereEmbedding",
    "UnitEmbedding",
    "attend",
    "backends_of",
    "carried",
    "centered",
    "freeze",
    "global_frame_attention",
    "hessian",
    "localize",
    "radial_basis",
    "smooth_convolution",
]
