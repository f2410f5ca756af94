//! The commands `list` and `show`.

use chrono::Utc;
use clap::ArgMatches;
use serde_json::Value;
use tower_api_token_sqlx::{Key, KeyQuery};

use crate::arguments::Values;
use crate::change::id;
use crate::exit::Failure;
use crate::output::{Output, clean, note};
use crate::session::Session;
use crate::settings::Settings;
use crate::shape;
use crate::span::time;

/// `list`
pub(crate) async fn list(
    out: Output,
    settings: &Settings,
    arguments: &ArgMatches,
) -> Result<(), Failure> {
    let limit = arguments.get_one::<u32>("limit").copied().unwrap_or(100);
    let mut query = KeyQuery::new().limit(limit);
    if let Some(tenant) = arguments.text("tenant") {
        query = query.tenant(tenant);
    }
    if let Some(after) = arguments.text("after") {
        query = query.after(Some(after.parse()?));
    }
    if arguments.get_flag("newest-first") {
        query = query.newest_first();
    }
    let session = Session::for_reading(settings).await?;
    loop {
        let page = session.keys.list(query.clone()).await?;
        print_page(out, &page.keys)?;
        let Some(next) = page.next else { return Ok(()) };
        if !arguments.get_flag("all") {
            note(&format!(
                "there are more; --after {next} continues, and --all lists them all"
            ));
            return Ok(());
        }
        query = query.after(next);
    }
}

fn print_page(out: Output, keys: &[Key]) -> Result<(), Failure> {
    let now = Utc::now();
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let rows: Vec<[String; 6]> = keys
        .iter()
        .map(|key| {
            [
                clean(&key.id),
                clean(&key.tenant_id),
                key.status_at(now).as_str().to_owned(),
                or_dash(key.last_used_at.map(time)),
                or_dash(key.expires_at.map(time)),
                or_dash(key.name.as_deref().map(clean)),
            ]
        })
        .collect();
    let heads = ["ID", "TENANT", "STATUS", "LAST USED", "EXPIRES", "NAME"].map(str::to_owned);
    let mut widths = [0; 6];
    for row in rows.iter().chain([&heads]) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in [&heads].into_iter().chain(&rows) {
        let cells = row.iter().zip(widths);
        let line: String = cells
            .map(|(cell, width)| format!("{cell:width$}  "))
            .collect();
        out.text(line.trim_end())?;
    }
    for key in keys {
        out.json(|| shape::key(key, now))?;
    }
    Ok(())
}

/// `show`
pub(crate) async fn show(
    out: Output,
    settings: &Settings,
    arguments: &ArgMatches,
) -> Result<(), Failure> {
    let id = id(settings, arguments)?;
    let session = Session::for_reading(settings).await?;
    let key = session.keys.get(&id).await?;
    let key = key.ok_or(tower_api_token_sqlx::Error::UnknownKey)?;
    let rotation = session.keys.rotation(&id).await?;
    let now = Utc::now();
    out.json(|| {
        let mut object = shape::key(&key, now);
        object["rotation"] = rotation.as_ref().map_or(Value::Null, shape::rotation);
        object
    })?;
    for (name, value) in shape::fields(&key, now) {
        out.text(&format!("{name:<12} {value}"))?;
    }
    if let Some(rotation) = &rotation {
        let old = &rotation.predecessor.id;
        let line = match rotation.still_used_at() {
            Some(used) => format!(
                "{old} was used after it was rotated, last at {}",
                time(used)
            ),
            None => format!("{old} was not used since it was rotated"),
        };
        out.text(&format!("{:<12} {line}", "rotation"))?;
    }
    Ok(())
}
