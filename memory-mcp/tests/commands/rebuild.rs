//! `knowhow rebuild`.

use crate::place::Place;

#[test]
fn what_differs_is_told_and_put_right() {
    let place = Place::taught();
    let before = place.json(&["knowledge", "list", "patterns"]);
    let same = place.json(&["rebuild", "--verify"]);
    assert_eq!((&same["episodes"], &same["repaired"], &same["same"]), (&12.into(), &0.into(), &true.into()));
    assert!(place.told(&["rebuild"]).starts_with("the same: 12 episodes teach"));

    place.sql("DELETE FROM pattern_deltas; DELETE FROM pattern_blocks");
    let ran = place.run(&["rebuild", "--verify"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.starts_with("not the same: 12 episodes teach") && ran.out.contains("put right"), "{ran:?}");
    assert_eq!(place.json(&["rebuild", "--verify"])["same"], true);
    assert_eq!(place.json(&["knowledge", "list", "patterns"]), before);
}
