"""Metrics: plain functions of arrays, the same for every model.

Shapes: X (n_samples, n_features), W (n_samples, n_components), H (n_components, n_features);
restarts are a leading axis. Everything is computed in float64. Only numpy is imported here; scipy
and scikit-learn are imported by the functions that need them.
"""

from __future__ import annotations

from nmfnet.kernels.assignment import Assignment
from nmfnet.kernels.dimension import intrinsic_dimension
from nmfnet.metrics.association import Association, Associations, associate
from nmfnet.metrics.cells import gene_scores, gene_variability
from nmfnet.metrics.clustering import (
    adjusted_rand,
    clustering_accuracy,
    clusters_of,
    normalized_mutual_information,
    purity,
    silhouette,
)
from nmfnet.metrics.communities import (
    distinct_anchors,
    markers_of,
    nearest_spots,
    signature_scores,
    stable_matching,
)
from nmfnet.metrics.consensus import (
    consensus_clusters,
    consensus_matrix,
    cophenetic_correlation,
    dispersion,
)
from nmfnet.metrics.consistency import (
    Consistency,
    bootstrap_interval,
    consistency,
    cross_method_cosine,
    jackknife,
    legacy_dup15,
    pair_values,
    pairwise_matched_cosine,
)
from nmfnet.metrics.decomposition import Decomposition, decompose
from nmfnet.metrics.factors import (
    balance_scale,
    collapse_count,
    component_cosines,
    feature_scores,
    hoyer_sparsity,
    match_components,
    matched_cosine,
    normalize_scale,
    specific_features,
)
from nmfnet.metrics.fit import (
    Product,
    explained_variance,
    feature_means,
    fit_metrics,
    kl,
    mse,
    poisson_deviance,
    q_values,
    relative_error,
    rmse,
    sample_cosine,
    svd_floor,
    svd_floor_curve,
    thinned_deviance,
)
from nmfnet.metrics.generation import Coverage, energy_distance, mode_coverage
from nmfnet.metrics.hierarchy import layer_metrics, readout_accuracy, readout_metrics, topic_tree
from nmfnet.metrics.kkt import kkt_residual, kkt_residuals
from nmfnet.metrics.links import link_metrics
from nmfnet.metrics.medoids import Medoids, pam
from nmfnet.metrics.nonnegative_rank import (
    RectangleCover,
    fooling_set,
    rectangle_cover,
    support_of,
)
from nmfnet.metrics.profiles import (
    Profiles,
    drawn_rows,
    mapped_components,
    profiles_of_draws,
)
from nmfnet.metrics.ratings import listed_metrics, ranking_metrics
from nmfnet.metrics.reference import (
    ReferenceMatch,
    exposure_recovery,
    match_reference,
    recovery,
)
from nmfnet.metrics.refit import nnls_refit, refit_mse
from nmfnet.metrics.shares import share_errors
from nmfnet.metrics.sound import note_name, pitch, separation
from nmfnet.metrics.stability import (
    DenseClusters,
    RestartClusters,
    cluster_restarts,
    consensus_medoids,
    dense_consensus,
    objective_spread,
    silhouettes,
    stability_metrics,
)
from nmfnet.metrics.topics import (
    cv_coherence,
    npmi_coherence,
    perplexity,
    principal_coordinates,
    smoothed_shares,
    top_features,
    top_words,
    topic_distances,
    topic_diversity,
    topic_sizes,
    umass_coherence,
)
