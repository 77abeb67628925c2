"""Reading atomic models: assemblies, conformers, formats and damaged files."""

from __future__ import annotations

import gzip
from pathlib import Path

import gemmi
import numpy as np
import pytest

from tomadapt.doctor import examine
from tomadapt.errors import ConfigError, InputError
from tomadapt.structures import read_atomic_model


def atom(
    serial: int | str,
    name: str,
    residue: str,
    chain: str,
    number: int,
    xyz: tuple[float, float, float],
    *,
    altloc: str = " ",
    occupancy: float = 1.0,
    element: str = "C",
    record: str = "ATOM",
) -> str:
    """Write one PDB atom record; ``chain`` may have two letters (hybrid-36 files)."""
    x, y, z = xyz
    return (
        f"{record:<6}{serial:>5} {name:^4}{altloc}{residue:>3}{chain:>2}{number:>4}    "
        f"{x:8.3f}{y:8.3f}{z:8.3f}{occupancy:6.2f}{20:6.2f}          {element:>2}\n"
    )


def biomt(*translations: float, chains: str = "A", more: str = "") -> str:
    """Write REMARK 350 with one operator for each translation along x."""
    lines = [f"REMARK 350 APPLY THE FOLLOWING TO CHAINS: {chains}\n", more]
    for number, shift in enumerate(translations, start=1):
        for row in range(3):
            values = [1.0 if row == column else 0.0 for column in range(3)]
            matrix = "".join(f"{value:10.6f}" for value in values)
            vector = f"{shift if row == 0 else 0:15.5f}"
            lines.append(f"REMARK 350   BIOMT{row + 1} {number:3d}{matrix}{vector}\n")
    return "".join(lines)


def write(folder: Path, text: str, name: str = "model.pdb") -> Path:
    path = folder / name
    path.write_text(text)
    return path


CARBON = atom(1, "CA", "ALA", "A", 1, (1, 2, 3))


def test_fields_of_a_pdb_file(tmp_path: Path) -> None:
    path = write(tmp_path, CARBON + atom(2, "N", "ALA", "A", 1, (4, 5, 6), element="N") + "END\n")
    model = read_atomic_model(path)
    assert model.name == "model"
    np.testing.assert_allclose(model.positions_A, [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_allclose(model.masses_da, [12.011, 14.007], atol=2e-3)
    assert model.atomic_numbers.tolist() == [6, 7]
    assert model.occupancies.tolist() == [1, 1]
    assert model.b_factors.tolist() == [20, 20]


def test_hydrogens_and_waters_are_removed(tmp_path: Path) -> None:
    text = (
        CARBON
        + atom(2, "HA", "ALA", "A", 1, (1, 2, 4), element="H")
        + atom(3, "D", "ALA", "A", 1, (1, 2, 5), element="D")
        + atom(4, "O", "HOH", "A", 2, (9, 9, 9), element="O", record="HETATM")
        + atom(5, "MG", "MG", "A", 3, (7, 7, 7), element="MG", record="HETATM")
    )
    assert read_atomic_model(write(tmp_path, text)).atomic_numbers.tolist() == [6, 12]


def test_first_conformer_is_kept_whole(tmp_path: Path) -> None:
    text = (
        atom(1, "N", "SER", "A", 1, (0, 0, 0), element="N")
        + atom(2, "CB", "SER", "A", 1, (1, 0, 0), altloc="A", occupancy=0.4)
        + atom(3, "CB", "SER", "A", 1, (2, 0, 0), altloc="B", occupancy=0.6)
        # Another type of residue at the same place is a conformer too.
        + atom(4, "CB", "CYS", "A", 1, (3, 0, 0), altloc="C", occupancy=0.0)
        # A residue of which B is the first conformer.
        + atom(5, "CB", "SER", "A", 2, (4, 0, 0), altloc="B", occupancy=0.5)
        # Half occupied without being a conformer: stays half.
        + atom(6, "CB", "SER", "A", 3, (5, 0, 0), occupancy=0.5)
    )
    model = read_atomic_model(write(tmp_path, text))
    assert model.positions_A[:, 0].tolist() == [0, 1, 4, 5]
    assert model.occupancies.tolist() == [1, 1, 1, 0.5]


def models(*atoms: str) -> str:
    return "".join(f"MODEL     {n:4d}\n{text}ENDMDL\n" for n, text in enumerate(atoms, start=1))


class TestSeveralModels:
    """Case c13: of models side by side, as files of assemblies have them, only one was used."""

    @staticmethod
    def globule(shift_A: float = 0.0, seed: int = 0) -> str:
        rng = np.random.default_rng(seed)
        places = np.random.default_rng(7).normal(size=(200, 3)) * 8 + 0.5 * rng.normal(
            size=(200, 3)
        )
        return "".join(
            atom(i + 1, "CA", "ALA", "A", i + 1, (x + shift_A, y, z))
            for i, (x, y, z) in enumerate(places)
        )

    def test_of_an_ensemble_the_first_is_used(self, tmp_path: Path) -> None:
        frames = [self.globule(seed=seed) for seed in range(3)]
        path = write(tmp_path, models(*frames))
        with pytest.warns(UserWarning, match="ensemble, one on top of another: the first is used"):
            model = read_atomic_model(path)
        alone = read_atomic_model(write(tmp_path, frames[0], "first.pdb"))
        np.testing.assert_allclose(model.positions_A, alone.positions_A)

    def test_of_copies_side_by_side_all_are_used(self, tmp_path: Path) -> None:
        frames = [self.globule(shift_A=100.0 * k) for k in range(3)]
        path = write(tmp_path, models(*frames))
        with pytest.warns(UserWarning, match="copies side by side: all 3 are used"):
            model = read_atomic_model(path)
        assert len(model.masses_da) == 600
        assert model.extent_A[0] > 200
        # In mmCIF, too; and an assembly that the file defines would copy the copies.
        structure = gemmi.read_pdb_string(models(*frames))
        text = structure.make_mmcif_document().as_string()
        with pytest.warns(UserWarning, match="all 3 are used"):
            assert len(read_atomic_model(write(tmp_path, text, "a.cif")).masses_da) == 600
        head = "REMARK 350 BIOMOLECULE: 1\n" + biomt(0, 500) + "REMARK 350\n"
        with pytest.warns(UserWarning, match="all 3 are used"):
            assert len(read_atomic_model(write(tmp_path, head + models(*frames))).masses_da) == 600

    def test_one_that_overlaps_makes_an_ensemble(self, tmp_path: Path) -> None:
        frames = [self.globule(), self.globule(shift_A=100.0), self.globule(seed=3)]
        with pytest.warns(UserWarning, match="ensemble"):
            assert len(read_atomic_model(write(tmp_path, models(*frames))).masses_da) == 200

    def test_waters_of_every_copy_go(self, tmp_path: Path) -> None:
        water = [
            atom(900, "OW", "SOL", "W", 1, (50 + 100 * k, 50, 50), element="O") for k in range(2)
        ]
        text = models(*(self.globule(shift_A=100.0 * k) + water[k] for k in range(2)))
        with pytest.warns(UserWarning, match="all 2 are used"):
            assert len(read_atomic_model(write(tmp_path, text)).masses_da) == 400


class TestMass:
    """Case c13: a mass that no protein of that size has was used without a word."""

    @staticmethod
    def lattice(step_A: float, n: int = 10) -> str:
        places = np.stack(np.meshgrid(*[np.arange(n) * step_A] * 3), axis=-1).reshape(-1, 3)
        return "".join(
            atom(i + 1, "CA", "ALA", "A", i + 1, (x, y, z)) for i, (x, y, z) in enumerate(places)
        )

    def test_of_a_protein_nothing_is_said(self, tmp_path: Path) -> None:
        model = read_atomic_model(write(tmp_path, self.lattice(2.6)))  # 12 Da in 2.6³ Å
        assert model.doubt() is None
        assert model.text == "1000 atoms without hydrogens, 12.01 kDa, 23 × 23 × 23 Å"

    @pytest.mark.parametrize(
        ("step_A", "why"), [(5.0, "Cα atoms alone"), (0.26, "coordinates in nm")]
    )
    def test_what_is_too_light_or_too_dense_is_questioned(
        self, tmp_path: Path, step_A: float, why: str
    ) -> None:
        path = write(tmp_path, self.lattice(step_A))
        with pytest.warns(UserWarning, match=rf"may not be what it seems: 1000 atoms.*{why}"):
            read_atomic_model(path)

    def test_doctor_says_mass_and_extent(self, tmp_path: Path) -> None:
        report = examine([write(tmp_path, self.lattice(2.6))]).files[0]
        assert report.kind == "structure"
        assert report.problems == 0
        assert report.value("mass") == pytest.approx(12.01, abs=0.01)
        assert report.value("extent") == pytest.approx([23.4] * 3)
        report = examine([write(tmp_path, self.lattice(5.0))]).files[0]
        (found,) = [f for f in report.findings if f.key == "density"]
        assert found.level == "note"

    @pytest.mark.data
    def test_no_reference_model_is_questioned(self, data_folder: Path) -> None:
        paths = sorted((data_folder / "models").glob("*.gz"))
        assert [p.name for p in paths if read_atomic_model(p).doubt()] == []


def test_hybrid_36_serials_and_two_letter_chains(tmp_path: Path) -> None:
    text = (
        atom("99999", "CA", "ALA", "AA", 1, (1, 0, 0))
        + atom("A0000", "CA", "ALA", "Aa", 1, (2, 0, 0))
        + atom("A0001", "CA", "ALA", "BA", 1, (3, 0, 0))
    )
    path = write(tmp_path, text)
    assert len(read_atomic_model(path).masses_da) == 3
    assert read_atomic_model(path, chains=["Aa"]).positions_A[:, 0].tolist() == [2]
    with pytest.raises(ConfigError, match=r"no chain AB.*AA, Aa, BA"):
        read_atomic_model(path, chains=["AB"])


def test_unknown_element_counts_as_carbon(tmp_path: Path) -> None:
    model = read_atomic_model(write(tmp_path, atom(1, "X1", "UNL", "A", 1, (0, 0, 0), element="X")))
    assert model.atomic_numbers.tolist() == [6]
    assert model.masses_da[0] == pytest.approx(12.011, abs=1e-3)


class TestAssembly:
    def text(self) -> str:
        head = "REMARK 350 BIOMOLECULE: 1\n" + biomt(0, 10) + "REMARK 350\n"
        head += "REMARK 350 BIOMOLECULE: 2\n" + biomt(0, 20, 40, chains="A, B")
        return head + CARBON + atom(2, "CA", "ALA", "B", 1, (5, 5, 5))

    def test_first_by_default(self, tmp_path: Path) -> None:
        model = read_atomic_model(write(tmp_path, self.text()))
        np.testing.assert_allclose(model.positions_A, [[1, 2, 3], [11, 2, 3]])

    def test_named(self, tmp_path: Path) -> None:
        model = read_atomic_model(write(tmp_path, self.text()), assembly="2")
        assert sorted(model.positions_A[:, 0]) == [1, 5, 21, 25, 41, 45]

    def test_deposited(self, tmp_path: Path) -> None:
        model = read_atomic_model(write(tmp_path, self.text()), assembly="deposited")
        assert model.positions_A[:, 0].tolist() == [1, 5]

    def test_unknown_lists_the_known(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="one of 1, 2, deposited; got 3") as caught:
            read_atomic_model(write(tmp_path, self.text()), assembly="3")
        assert "\n" not in str(caught.value)

    def test_old_style_continued_chain_list(self, tmp_path: Path) -> None:
        """As in 1mnf, where gemmi alone would lose the chains on the second line."""
        head = "REMARK 350 BIOMOLECULE: 1\n"
        head += biomt(0, chains="A,", more="REMARK 350 B, C\n")
        atoms = "".join(atom(i, "CA", "ALA", c, 1, (i, 0, 0)) for i, c in enumerate("ABCD"))
        model = read_atomic_model(write(tmp_path, head + atoms))
        assert model.positions_A[:, 0].tolist() == [0, 1, 2]

    def test_rotation_acts_on_column_vectors(self, tmp_path: Path) -> None:
        head = (
            "REMARK 350 BIOMOLECULE: 1\nREMARK 350 APPLY THE FOLLOWING TO CHAINS: A\n"
            "REMARK 350   BIOMT1   1  0.000000 -1.000000  0.000000        0.00000\n"
            "REMARK 350   BIOMT2   1  1.000000  0.000000  0.000000        0.00000\n"
            "REMARK 350   BIOMT3   1  0.000000  0.000000  1.000000        7.00000\n"
        )
        model = read_atomic_model(write(tmp_path, head + CARBON))
        np.testing.assert_allclose(model.positions_A, [[-2, 1, 10]])

    def test_mmcif(self, tmp_path: Path) -> None:
        """Operators apply to label chains; one that has only waters (B) is no obstacle."""
        text = """data_x
loop_
_atom_site.group_PDB
_atom_site.id
_atom_site.type_symbol
_atom_site.label_atom_id
_atom_site.label_alt_id
_atom_site.label_comp_id
_atom_site.label_asym_id
_atom_site.label_entity_id
_atom_site.label_seq_id
_atom_site.Cartn_x
_atom_site.Cartn_y
_atom_site.Cartn_z
_atom_site.occupancy
_atom_site.auth_seq_id
_atom_site.auth_asym_id
ATOM 1 C CA . ALA A 1 1 1 2 3 1 1 LONG
HETATM 2 O O . HOH B 2 . 4 5 6 1 101 LONG
_pdbx_struct_assembly.id XAU
loop_
_pdbx_struct_assembly_gen.assembly_id
_pdbx_struct_assembly_gen.oper_expression
_pdbx_struct_assembly_gen.asym_id_list
XAU (1-2) A,B
loop_
_pdbx_struct_oper_list.id
_pdbx_struct_oper_list.matrix[1][1]
_pdbx_struct_oper_list.matrix[1][2]
_pdbx_struct_oper_list.matrix[1][3]
_pdbx_struct_oper_list.vector[1]
_pdbx_struct_oper_list.matrix[2][1]
_pdbx_struct_oper_list.matrix[2][2]
_pdbx_struct_oper_list.matrix[2][3]
_pdbx_struct_oper_list.vector[2]
_pdbx_struct_oper_list.matrix[3][1]
_pdbx_struct_oper_list.matrix[3][2]
_pdbx_struct_oper_list.matrix[3][3]
_pdbx_struct_oper_list.vector[3]
1 1 0 0 0 0 1 0 0 0 0 1 0
2 1 0 0 100 0 1 0 0 0 0 1 0
"""
        path = write(tmp_path, text, "x.cif")
        for assembly in (None, "XAU"):
            model = read_atomic_model(path, assembly=assembly)
            np.testing.assert_allclose(model.positions_A, [[1, 2, 3], [101, 2, 3]])
        text = text.replace("(1-2) A,B", "(2)(1,2) A").replace(
            "100 0 1 0 0 0 0 1 0", "100 0 0 1 0 0 1 0 0"
        )
        model = read_atomic_model(write(tmp_path, text, "y.cif"))  # operator 2 now swaps y and z
        np.testing.assert_allclose(model.positions_A, [[101, 3, 2], [201, 2, 3]])
        bad = write(tmp_path, text.replace("(2)(1,2)", "(1-3)"), "z.cif")
        with pytest.raises(InputError, match="operator '3' is not defined"):
            read_atomic_model(bad)
        packed = tmp_path / "x.cif.gz"
        packed.write_bytes(gzip.compress(text.encode()))
        assert len(read_atomic_model(packed).masses_da) == 2


class TestBadFiles:
    def refused(self, path: Path, match: str) -> None:
        with pytest.raises(InputError, match=match) as caught:
            read_atomic_model(path)
        assert "\n" not in str(caught.value)
        assert path.name in str(caught.value)

    def test_missing(self, tmp_path: Path) -> None:
        self.refused(tmp_path / "none.pdb", "does not exist")

    def test_truncated_at_a_line_end(self, tmp_path: Path) -> None:
        """A gzip file that still gives whole lines: gemmi alone would read fewer atoms."""
        path = tmp_path / "cut.pdb.gz"
        path.write_bytes(gzip.compress(CARBON.encode() * 1000)[:-8])
        self.refused(path, "not a complete gzip file")

    def test_not_gzip(self, tmp_path: Path) -> None:
        self.refused(write(tmp_path, CARBON, "a.pdb.gz"), "not a complete gzip file")

    def test_unknown_extension(self, tmp_path: Path) -> None:
        self.refused(write(tmp_path, CARBON, "a.txt"), r"expected \.pdb.*got \.txt")

    @pytest.mark.parametrize("name", ["a.pdb", "a.cif"])
    @pytest.mark.parametrize("text", ["", "<html>\nnot a model</html>\n", "data_x\n_a.b 1\n"])
    def test_no_model(self, tmp_path: Path, name: str, text: str) -> None:
        self.refused(write(tmp_path, text, name), "holds no atoms|cannot be read as")

    def test_only_waters(self, tmp_path: Path) -> None:
        text = atom(1, "O", "HOH", "A", 1, (1, 1, 1), element="O", record="HETATM")
        self.refused(write(tmp_path, text), "no atoms that count")

    def test_zero_occupancy(self, tmp_path: Path) -> None:
        text = atom(1, "CA", "ALA", "A", 1, (1, 1, 1), occupancy=0)
        self.refused(write(tmp_path, text), "has no mass")

    @pytest.mark.parametrize("word", ["     nan", "********", "   x.xxx"])
    def test_coordinates_that_are_no_numbers(self, tmp_path: Path, word: str) -> None:
        self.refused(write(tmp_path, CARBON.replace("   1.000", word, 1)), "not numbers")

    def test_missing_coordinate_in_mmcif(self, tmp_path: Path) -> None:
        structure = gemmi.read_pdb_string(CARBON)
        text = structure.make_mmcif_document().as_string().replace(" 1 2 3 ", " ? 2 3 ")
        assert " ? 2 3 " in text
        self.refused(write(tmp_path, text, "a.cif"), "non-finite")


@pytest.mark.data
def test_every_reference_model_opens(data_folder: Path) -> None:
    counts = {p.name: read_atomic_model(p) for p in sorted((data_folder / "models").glob("*.gz"))}
    assert len(counts) == 26
    # The 180-mer of 60 operators; the dimer of one; the old-style chain list; two L8S8 halves.
    assert len(counts["1f2n.cif.gz"].masses_da) > 250_000
    assert len(counts["4zxb.cif.gz"].masses_da) > 25_000
    assert len(counts["1mnf.pdb.gz"].masses_da) > 53_000
    assert len(counts["1bxn.pdb.gz"].masses_da) == 36_288
    assert len(counts["4v8r_hybrid36.pdb.gz"].masses_da) == 128_780


class TestSimulations:
    """Files of force fields: no column of elements, and solvent by other names."""

    @staticmethod
    def lines(*, elements: bool, water: str = "", lipid: str = "") -> str:
        rng = np.random.default_rng(2)
        found = []
        residue = (("N", "N"), ("CA", "C"), ("C", "C"), ("O", "O"), ("HG1", "H"), ("CD", "C"))
        for number in range(1, 31):
            found += [(name, "GLN A", number, element) for name, element in residue]
        found += [("O", f"{water:<4}W", n, "O") for n in range(1, 301) if water]
        found += [("C1", f"{lipid:<4}L", n, "C") for n in range(1, 5) if lipid]
        return "\n".join(
            f"ATOM  {k + 1:5d} {' ' + name if elements else name:<4} {residue:<5}{number:4d}    "
            + "".join(f"{x:8.3f}" for x in rng.uniform(0, 60, 3))
            + f"  1.00  0.00          {element if elements else '':>2}"
            for k, (name, residue, number, element) in enumerate(found)
        )

    def test_regression_carbon_is_no_calcium(self, tmp_path: Path) -> None:
        """CA read as calcium and HG as mercury: six times the mass (mdtraj #1094)."""
        masses = []
        for elements in (True, False):
            path = tmp_path / f"{elements}.pdb"
            path.write_text(self.lines(elements=elements) + "\nEND\n")
            model = read_atomic_model(path)
            assert set(model.atomic_numbers.tolist()) == {6, 7, 8}
            masses.append(model.masses_da.sum())
        assert masses[0] == masses[1]

    @pytest.mark.parametrize("water", ["SOL", "TIP3", "SPC", "WAT", "HOH"])
    def test_regression_water_by_any_name_goes(self, tmp_path: Path, water: str) -> None:
        path = tmp_path / "w.pdb"
        path.write_text(self.lines(elements=True, water=water) + "\nEND\n")
        if water == "HOH":
            model = read_atomic_model(path)
        else:
            with pytest.warns(UserWarning, match="300 residues of solvent"):
                model = read_atomic_model(path)
        assert len(model.masses_da) == 30 * 5

    def test_lipids_are_told_and_stay(self, tmp_path: Path) -> None:
        path = tmp_path / "l.pdb"
        path.write_text(self.lines(elements=True, lipid="POPC") + "\nEND\n")
        with pytest.warns(UserWarning, match="4 lipids"):
            assert len(read_atomic_model(path).masses_da) == 30 * 5 + 4

    @staticmethod
    def beads(*names: str, residue: str = "ALA", chain: str = "B", count: int = 40) -> str:
        """Lines without elements, as GROMACS writes them."""
        rng = np.random.default_rng(3)
        return "".join(
            f"ATOM  {k + 1:5d} {name if name == 'CS' else f' {name}':<4} "
            f"{residue:>3} {chain}{number:4d}    "
            + "".join(f"{x:8.3f}" for x in rng.uniform(0, 60, 3))
            + "  1.00  0.00\n"
            for number in range(1, count + 1)
            for k, name in enumerate(names)
        )

    @pytest.mark.parametrize("names", [("BB", "SC1"), ("BB1", "BB2", "BB3"), ("GN", "GC", "GO")])
    def test_regression_beads_are_no_atoms(self, tmp_path: Path, names: tuple[str, ...]) -> None:
        """Martini's water W read as tungsten: 380 kDa instead of 13, and all of it ok."""
        text = self.beads(*names) + self.beads("W", residue="W", count=300) + "END\n"
        path = write(tmp_path, text)
        with pytest.raises(InputError, match=r"coarse-grained.*40 residues of beads.*into atoms"):
            read_atomic_model(path)

    @pytest.mark.parametrize("name", ["W", "PW", "ION"])
    def test_regression_water_beads_around_atoms_go(self, tmp_path: Path, name: str) -> None:
        text = self.lines(elements=True) + "\n" + self.beads("W", residue=name) + "END\n"
        with pytest.warns(UserWarning, match="40 residues of solvent"):
            model = read_atomic_model(write(tmp_path, text))
        assert len(model.masses_da) == 30 * 5
        assert set(model.atomic_numbers.tolist()) == {6, 7, 8}

    def test_regression_heavy_ions_are_told_where_they_weigh(self, tmp_path: Path) -> None:
        """Elements that are guessed from names, and ions in solution; a few are no matter."""
        protein = self.lines(elements=True) + "\n"
        with pytest.warns(UserWarning, match=r"% of its mass: 40 of CS \(Cs\)"):
            read_atomic_model(write(tmp_path, protein + self.beads("CS", residue="CS") + "END\n"))
        few = protein + self.beads("W", residue="W", count=1) + "END\n"
        with pytest.warns(UserWarning, match=r"1 of W \(W\)"):
            model = read_atomic_model(write(tmp_path, few))
        assert 74 in model.atomic_numbers
        found = examine([tmp_path / "model.pdb"]).files[0].findings
        assert [f.level for f in found if f.key == "told"] == ["warning"]
