//! Configurations: a TOML file, and after the first NUL the values of environment variables, `key=value` on each line.

use memory_mcp::config::{Config, Origin, Problem, SETTINGS, Setting};
use memory_mcp::open::Plan;

/// What a secret is replaced by, to look for.
const SECRET: &str = "Zq9-hush";

pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (file, environment) = text.split_once('\0').unwrap_or((&text, ""));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("knowhow.toml");
    std::fs::write(&path, file).unwrap();
    let told = |name: &str| {
        let setting = SETTINGS.iter().find(|setting| setting.variable() == name)?;
        let mut lines = environment.lines().filter_map(|line| line.split_once('='));
        let text = lines.find(|(key, _)| *key == setting.key)?.1.to_owned();
        Some(if setting.secret { SECRET.to_owned() } else { text })
    };
    let (config, problems) = Config::load(Some(&path), told, &[]);
    let at_file = path.display().to_string();
    for problem in &problems {
        assert!(problem.at.contains(&at_file), "{problem} does not name the file");
        assert!(!problem.what.is_empty());
    }
    if let [Problem { at, what }] = &problems[..]
        && *at == at_file
    {
        assert!(!what.contains(SECRET), "{what}");
    }
    check(&config);

    let again = folder.path().join("again.toml");
    std::fs::write(&again, written(&config)).unwrap();
    let (back, problems) = Config::load(Some(&again), |_| None, &[]);
    assert_eq!(problems, [], "{}", written(&config));
    for (setting, value) in config.values() {
        assert_eq!(back.get(setting.key), value.text, "{}", setting.key);
    }
}

/// A configuration is a plan, or every problem names its field and tells no secret.
fn check(config: &Config) {
    let Err(problems) = Plan::new(config) else { return };
    assert!(!problems.is_empty());
    let public = config.values().any(|(setting, value)| !setting.secret && value.text.contains(SECRET));
    for Problem { at, what } in &problems {
        let (key, _) = at.split_once(" (").unwrap();
        assert!(Setting::of(key).is_some(), "{at} is no setting");
        assert!(!what.is_empty() && (public || !what.contains(SECRET)), "{at}: {what}");
    }
}

/// All that is set, as a file.
fn written(config: &Config) -> String {
    let mut root = toml::Table::new();
    for (setting, value) in config.values() {
        if value.origin == Origin::Default && value.text == setting.default {
            continue;
        }
        let mut table = &mut root;
        let (tables, name) = setting.key.rsplit_once('.').map_or(("", setting.key), |(tables, name)| (tables, name));
        if !tables.is_empty() {
            let inner = table.entry(tables).or_insert_with(|| toml::Table::new().into());
            table = inner.as_table_mut().unwrap();
        }
        table.insert(name.to_owned(), value.text.clone().into());
    }
    root.to_string()
}
