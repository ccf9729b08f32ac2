from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from exgs_viewer.errors import SceneError
from exgs_viewer.scene.camera import (
    Camera,
    ahead,
    blend,
    distance,
    dolly,
    fly,
    look,
    look_at,
    orbit,
    read_cameras,
    write_cameras,
)

UP = (0.0, -1.0, 0.0)
SIZE = (640, 480)
angles = st.floats(-3, 3)
places = st.tuples(*[st.floats(-5, 5)] * 3)


def seen(camera: Camera, point) -> np.ndarray:
    """Camera coordinates of a world point, by the matrix."""
    return (camera.world_to_camera().double().numpy() @ [*point, 1])[:3]


def height(camera: Camera, up=UP) -> float:
    """Angle of the view above the horizon."""
    return math.asin(np.clip(np.dot(camera.forward, up), -1, 1))


def assert_rotation(camera: Camera) -> None:
    basis = camera.camera_to_world()[:3, :3].double().numpy()
    assert np.allclose(basis @ basis.T, np.eye(3), atol=1e-5) and np.linalg.det(basis) == pytest.approx(1, abs=1e-5)


def test_a_camera_looks_at_its_target_with_up_upwards(camera):
    x, y, z = seen(camera, (0, 0, 0))
    assert (x, y) == pytest.approx((0, 0), abs=1e-5) and z == pytest.approx(distance(camera, (0, 0, 0)), rel=1e-5)
    assert seen(camera, UP)[1] < 0, "up is down in the picture"
    assert camera.right[1] == pytest.approx(0, abs=1e-6), "the horizon is tilted"


@given(places, places)
def test_looking_anywhere_gives_a_rotation_even_along_up_or_at_itself(position, target):
    assert_rotation(look_at(position, target, UP))


def test_right_down_forward_are_the_columns_of_the_matrix(camera):
    matrix = camera.camera_to_world().numpy()
    for column, axis in enumerate((camera.right, camera.down, camera.forward, camera.position)):
        assert matrix[:3, column].tolist() == pytest.approx(axis, abs=1e-6)
    assert np.cross(camera.right, camera.down).tolist() == pytest.approx(camera.forward, abs=1e-5)


def test_the_two_matrices_undo_each_other(camera):
    torch.testing.assert_close(camera.camera_to_world() @ camera.world_to_camera(), torch.eye(4), atol=1e-5, rtol=0)


def test_the_field_of_view_reaches_from_the_top_to_the_bottom_of_the_picture(camera):
    matrix = camera.intrinsics(SIZE).double().numpy()
    top = matrix @ [0, -math.tan(camera.fov_y / 2), 1]
    bottom = matrix @ [0, math.tan(camera.fov_y / 2), 1]
    assert (top[1], bottom[1]) == pytest.approx((0, 480), abs=1e-3)
    assert matrix[:2, 2].tolist() == [320, 240] and matrix[0, 0] == matrix[1, 1] == pytest.approx(camera.focal(SIZE))


@given(angles, angles)
def test_orbiting_keeps_the_focus_where_it_is_in_the_picture(yaw, pitch):
    camera, focus = look_at((0.3, -0.4, -2.5), (0.2, 0.1, 0.5), UP), (0.2, 0.1, 0.5)
    turned = orbit(camera, focus, yaw, pitch, UP)
    assert seen(turned, focus) == pytest.approx(seen(camera, focus), abs=1e-3)
    assert turned.right[1] == pytest.approx(0, abs=1e-3), "the horizon tilted"
    assert abs(height(turned)) < math.pi / 2 - 0.02


def test_orbiting_turns_by_as_much_as_is_asked(camera):
    turned = orbit(camera, (0, 0, 0), 0.3, 0.0, UP)
    flat = [np.array([c.position[0], c.position[2]]) for c in (camera, turned)]
    angle = math.acos(flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1]))
    assert angle == pytest.approx(0.3, abs=1e-4) and turned.position[1] == pytest.approx(camera.position[1], abs=1e-5)


def test_looking_up_lifts_the_view_in_place(camera):
    lifted = look(camera, 0.0, 0.25, UP)
    assert lifted.position == camera.position
    assert height(lifted) - height(camera) == pytest.approx(0.25, abs=1e-4)


def test_looking_stops_short_of_the_poles(camera):
    for pitch, sign in ((5.0, 1), (-5.0, -1)):
        assert height(look(camera, 0.0, pitch, UP)) * sign == pytest.approx(math.pi / 2 - 0.035, abs=1e-3)


def test_flying_moves_along_the_own_axes(camera):
    moved = fly(camera, 1.0, 2.0, 3.0)
    wanted = (
        np.array(camera.position) + np.array(camera.right) + 2 * np.array(camera.down) + 3 * np.array(camera.forward)
    )
    assert moved.position == pytest.approx(wanted.tolist(), abs=1e-5) and moved.rotation == pytest.approx(
        camera.rotation
    )


def test_dollying_scales_the_distance(camera):
    assert distance(dolly(camera, (1, 1, 1), 0.5), (1, 1, 1)) == pytest.approx(
        0.5 * distance(camera, (1, 1, 1)), rel=1e-5
    )


def test_what_lies_ahead_is_in_the_middle_of_the_picture(camera):
    target = look_at((2.0, -1.0, 3.0), (0.0, 0.0, 0.0), UP)
    assert ahead(target, distance(target, (0.0, 0.0, 0.0))) == pytest.approx((0.0, 0.0, 0.0), abs=1e-5)
    assert ahead(camera, 2.5) == pytest.approx(fly(camera, 0, 0, 2.5).position, abs=1e-5)


def test_blending_goes_the_short_way_round(camera):
    turned = look(camera, 0.4, 0.0, UP)
    middle = blend(camera, Camera(turned.position, tuple(-part for part in turned.rotation), turned.fov_y), 0.5)
    assert middle.forward == pytest.approx(look(camera, 0.2, 0.0, UP).forward, abs=1e-4)


@given(places, places, st.floats(0.2, 2.5))
def test_cameras_json_gives_back_what_was_written(tmp_path_factory, position, target, fov_y):
    camera = look_at(position, target, UP, fov_y)
    path = tmp_path_factory.mktemp("cameras") / "cameras.json"
    write_cameras(path, [camera], SIZE)
    (again,) = read_cameras(path)
    assert again.position == pytest.approx(camera.position) and again.fov_y == pytest.approx(fov_y, rel=1e-6)
    assert abs(np.dot(again.rotation, camera.rotation)) == pytest.approx(1, abs=1e-5)


def test_cameras_json_is_read_as_the_original_code_writes_it(tmp_path):
    # A camera at (1, 2, 3) turned by 90 degrees about y: it looks along +x, its right hand points along -z.
    entry = {"id": 0, "img_name": "00", "width": 800, "height": 600, "position": [1, 2, 3]}
    entry.update(rotation=[[0, 0, 1], [0, 1, 0], [-1, 0, 0]], fy=300.0, fx=300.0)
    (tmp_path / "cameras.json").write_text(json.dumps([entry]))
    (camera,) = read_cameras(tmp_path / "cameras.json")
    assert camera.position == (1, 2, 3) and camera.fov_y == pytest.approx(math.pi / 2)
    assert camera.forward == pytest.approx((1, 0, 0), abs=1e-6) and camera.right == pytest.approx((0, 0, -1), abs=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "7", "[7]", '{"position": 1}', "[{}]"),
        '[{"position": [1, 2], "rotation": [[1,0,0],[0,1,0],[0,0,1]], "fy": 1, "height": 1}]',
        '[{"position": [1, 2, 3], "rotation": [[1,0,0],[0,1,0]], "fy": 1, "height": 1}]',
        '[{"position": [1, 2, 3], "rotation": [[2,0,0],[0,2,0],[0,0,2]], "fy": 1, "height": 1}]',
        '[{"position": [1, 2, NaN], "rotation": [[1,0,0],[0,1,0],[0,0,1]], "fy": 1, "height": 1}]',
        '[{"position": [1, 2, 3], "rotation": [[1,0,0],[0,1,0],[0,0,1]], "fy": 0, "height": 1}]',
        '[{"position": [1, 2, 3], "rotation": [[1,0,0],[0,1,0],[0,0,1]], "fy": -1, "height": 1}]',
        "[" * 100_000,
    ],
)
def test_a_broken_cameras_json_gives_one_sentence_with_its_name(tmp_path, text):
    (tmp_path / "cameras.json").write_text(text)
    with pytest.raises(SceneError, match=r"cameras\.json: "):
        read_cameras(tmp_path / "cameras.json")


def test_a_missing_cameras_json_gives_one_sentence(tmp_path):
    with pytest.raises(SceneError, match=r"cameras\.json: cannot be read"):
        read_cameras(tmp_path / "cameras.json")


@pytest.mark.shared
def test_the_checked_views_of_the_real_scenes_are_read(scenes):
    for path in sorted((scenes / "cameras").glob("*.json")):
        cameras = read_cameras(path)
        assert len(cameras) == 12, path.name
        for camera in cameras:
            assert_rotation(camera)
