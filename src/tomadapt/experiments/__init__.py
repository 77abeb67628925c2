"""The experiments of Lin et al. 2019, each by one command, at a stated scale, resumable."""

from __future__ import annotations

EXPERIMENTS = {
    "table1": "accuracy on 5 × 5 SNRs, batch B to batch A",
    "table2": "experimental subtomograms (or their simulated stand-ins)",
    "figure3": "centre slices at each SNR",
    "figure4": "t-SNE and confusion matrices (figures 4 and 5)",
    "figure7": "structures averaged by labels from before and after adaptation",
    "figure8": "features of a class left out of training and adaptation",
    "figure9": "novel structures: clusters, unknown scores and recovered maps (figures 8 and 9)",
    "augmentation": "accuracy with and without augmentation",
    "alignment": "planted poses found again, beside other programs",
    "recovery": "structures averaged from random poses, beside the truth",
    "student": "Table 1's targets by likelihood, and by a network that learns from it",
    "third_party": "labels by likelihood on a tomogram, cubes and ribosomes that others made",
    "third_party_tomograms": "labels by likelihood in tomograms that RELION projected",
    "third_party_networks": "adapted networks on cubes that others made",
    "third_party_students": "the judge's student on cubes that others made",
    "student_scale": "time and memory of a student that labels ten thousand cubes",
    "streaming": "a source that streams against a stored one, at equal CPU time",
    "second_round": "a class that was not named: averaged from what is called other, then named",
    "spheres": "spheres of a protein's size among proteins, labelled by likelihood",
    "limits": "where labels by likelihood end: rivals, CTF, defocus, homologues, shifts, SNR",
    "planted": "a tomogram's planted particles found and named by the one command",
    "projects": "tomograms of a project, by their own metadata and by one defocus for all",
    "projects_workers": "small tomograms by one worker and by two",
    "projects_killed": "a project labelled while its processes are killed",
    "ribosomes": "recall of real ribosomes, and their scores against decoys'",
}
"""Name → what it measures; each is the module of that name, with a function ``run(setting)``."""
