//! Follows the units of one source: one mirror, one fetch and one loop for all of them.
//!
//! What a tip makes of the units is for [`units::plan`] to say. Each is then judged by itself, by
//! what judges any source; one in which nothing changed costs a comparison of two ids.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    clock,
    import::{Error, Importer, Scope, Trust, Vouched, done, moved, shows, trust},
};
use crate::{
    git::{At, FolderId, Reader},
    kinds::{CommitState, GitSource, GitSourceSpec},
    model::{CommitId, Key, Problem},
    plan::{
        admission::is_news,
        failure::way_back,
        freeze, guest, precedence,
        recall::Recalled,
        units::{self, Ended, Folder, Tip},
    },
    render::{self, Ignore, Layout},
    state::View,
};

/// Most units that are read beside each other: their files are rendered by threads of their own.
const READERS_MAX: usize = 4;

/// Follows a source that is taken by unit.
pub(super) struct Units {
    /// What knows the source itself: its mirror, its keys, whom it wakes.
    top: Importer,
    /// Who signed the commit that was trusted last.
    vouched: Vouched,
    shared: Mutex<Shared>,
}

/// What was found before, so that the next look costs what changed. Nothing of it is needed.
#[derive(Default)]
struct Shared {
    units: BTreeMap<String, Unit>,
    /// By which rules the folders were read.
    rules: Vec<u8>,
    folders: Folders,
    /// The tip that was looked at last.
    tip: Option<CommitId>,
    /// The tip that was trusted last.
    trusted: Option<CommitId>,
}

/// What stands in each folder, and the id by which that is known.
type Folders = BTreeMap<String, (FolderId, Arc<Folder>)>;

/// One unit.
struct Unit {
    importer: Arc<Importer>,
    /// What its folder was at the commit by which it was judged.
    judged: Option<(CommitId, Content)>,
}

/// What of a commit a unit is made of, bases elsewhere left out: its folder, and the rules by which
/// files are left out.
type Content = (Option<FolderId>, At);

/// A tip that was looked at.
struct Survey {
    tip: Tip,
    trust: Trust,
    ids: BTreeMap<String, FolderId>,
    rules: At,
}

/// Whether a unit has to be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    No,
    /// Something that is not in its folder may have changed.
    Maybe,
    Yes,
}

impl Units {
    /// Follows the units of the source that `top` knows.
    pub(super) fn new(top: Importer) -> Self {
        Self { top, vouched: Vouched::default(), shared: Mutex::default() }
    }

    /// What knows the source itself.
    pub(super) fn top(&self) -> &Importer {
        &self.top
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn view(&self) -> View {
        self.top.store.view()
    }

    fn is_at_work(&self) -> bool {
        self.top.store.is_leader() && !self.top.spec.suspend
    }

    /// Looks whenever there may be something new and this server leads, until `stop`.
    pub(super) async fn run(&self, stop: CancellationToken) {
        let (mut roles, nudge) = (self.top.store.roles(), self.top.nudge());
        let reference = self.top.mirror.remote().reference.full_name();
        let mut watch = self.top.watch(reference.as_deref());
        let mut views = self.top.store.views();
        let (mut failures, mut fetches) = (0, true);
        loop {
            views.borrow_and_update();
            let (mut stuck, mut again) = (BTreeSet::new(), None);
            if self.is_at_work() {
                (stuck, again) = self.keep().await;
                failures = self.look(fetches, failures).await;
            } else if !self.top.spec.suspend {
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = roles.changed() => if changed.is_err() { return } else { continue },
                    () = self.keep_up() => {}
                }
            }
            fetches = true;
            let pause = self.top.pause(failures);
            let pause = again.map_or(pause, |again: Duration| pause.min(again));
            let pause = self.thaws_in().map_or(pause, |left| pause.min(left));
            let stirs = |view: &View| self.is_at_work() && self.is_stirred(view, &stuck);
            tokio::select! {
                () = stop.cancelled() => return,
                () = nudge.notified() => {}
                () = moved(&mut watch) => {}
                () = shows(&mut views, stirs) => fetches = false,
                changed = roles.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(tokio::time::Instant::now() + pause) => {}
            }
        }
    }

    /// Brings what the units run into the mirror of a server that does not lead.
    async fn keep_up(&self) {
        let view = self.view();
        let heads: Vec<CommitId> =
            self.names(&view).filter_map(|n| Some(view.head_of(n)?.commit.clone())).collect();
        let mirror = self.top.mirror.clone();
        let lacks = move || {
            mirror
                .reader()
                .is_ok_and(|reader| heads.iter().any(|head| reader.commit(head).is_err()))
        };
        if let Ok(true) = tokio::task::spawn_blocking(lacks).await
            && let Err(error) = self.top.fetch().await
        {
            tracing::debug!(event = "mirror not kept up", source = self.top.name, %error);
        }
    }

    /// How long until a freeze ends that holds a unit.
    fn thaws_in(&self) -> Option<Duration> {
        let view = self.view();
        let ends = self.names(&view).filter_map(|name| freeze::wake_at(&view, name));
        ends.min().map(|at| at.since(clock::now())).filter(|left| !left.is_zero())
    }

    fn names<'a>(&'a self, view: &'a View) -> impl Iterator<Item = &'a str> {
        units::of(view, &self.top.name).map(|(unit, _)| unit.key().name.as_str())
    }

    /// What follows a unit by what it says now.
    fn importer(&self, name: &str, spec: &GitSourceSpec) -> Arc<Importer> {
        let mut shared = self.lock();
        let known = shared.units.get(name).filter(|unit| unit.importer.spec == *spec);
        if let Some(unit) = known {
            return unit.importer.clone();
        }
        let importer = self.top.unit(name, spec.clone(), self.vouched.clone());
        let importer = Arc::new(importer);
        let unit = Unit { importer: importer.clone(), judged: None };
        shared.units.insert(name.to_owned(), unit);
        importer
    }

    fn importers(&self, view: &View) -> Vec<Arc<Importer>> {
        let all = units::of(view, &self.top.name);
        all.map(|(unit, source)| self.importer(&unit.key().name, &source.spec)).collect()
    }

    /// Takes units back that have failed and makes again what is gone; needs no remote. Tells which
    /// cannot go back, and when there is more to be made again.
    async fn keep(&self) -> (BTreeSet<String>, Option<Duration>) {
        let (mut stuck, mut again) = (BTreeSet::new(), None);
        let view = self.view();
        let drifted: BTreeSet<&str> =
            view.drifted().filter_map(|key| Some(view.origin(key)?.source.as_str())).collect();
        for importer in self.importers(&view) {
            if importer.go_back().await {
                stuck.insert(importer.name.clone());
            }
            if drifted.contains(importer.name.as_str()) {
                again = importer.put_back().await.into_iter().chain(again).min();
            }
        }
        (stuck, again)
    }

    /// Whether there is something to do that no look at the remote shows.
    fn is_stirred(&self, view: &View, stuck: &BTreeSet<String>) -> bool {
        let drifted: BTreeSet<&str> =
            view.drifted().filter_map(|key| Some(view.origin(key)?.source.as_str())).collect();
        let of_unit = |(unit, source): (&crate::model::Object, &GitSource)| {
            let name = unit.key().name.as_str();
            let goes_back = || way_back(view, name).is_some() && !stuck.contains(name);
            let is_gone = || {
                let shared = self.lock();
                drifted.contains(name)
                    && shared.units.get(name).is_some_and(|unit| unit.importer.is_missed(view))
            };
            let thaws = || precedence::is_due(view, name, clock::now());
            goes_back() || is_gone() || thaws() || !guest::is_judged(name, source)
        };
        precedence::is_due(view, &self.top.name, clock::now())
            || units::of(view, &self.top.name).any(of_unit)
    }

    /// One look; gives how many failed in a row.
    async fn look(&self, fetches: bool, failures: u32) -> u32 {
        let known = self.lock().tip.clone().filter(|_| !fetches);
        match known {
            Some(tip) => match self.take(&tip).await {
                Ok(()) => failures,
                Err(error) => {
                    tracing::warn!(event = "units not looked at", source = self.top.name, %error);
                    failures + 1
                }
            },
            None => {
                let result = self.fetch_and_take().await;
                self.top.note_look(result, failures).await
            }
        }
    }

    async fn fetch_and_take(&self) -> Result<CommitId, Error> {
        let tip = self.top.fetch().await?.tip;
        self.take(&tip).await?;
        Ok(tip)
    }

    /// Has every unit look at a tip that it concerns.
    async fn take(&self, tip: &CommitId) -> Result<(), Error> {
        let (view, name) = (self.view(), self.top.name.as_str());
        if !guest::is_current(&view, name, &self.top.spec) {
            return Ok(());
        }
        if let Some(why) = precedence::waits_for(&view, name, tip) {
            tracing::info!(event = "commit waits", source = name, why);
            return Ok(());
        }
        let survey = Arc::new(self.survey(tip).await?);
        let ended = match survey.trust.problems.is_empty() {
            false => Ended::Refused(survey.trust.problems.clone()),
            true => Ended::Seen(self.work_off(&survey).await?),
        };
        if let Some(write) = units::ended(&self.view(), name, tip, ended)? {
            done(self.top.store.propose(vec![write]).await?)?;
        }
        self.lock().tip = Some(tip.clone());
        Ok(())
    }

    /// Makes, judges and ends units; gives what is wrong with the tip beside them.
    async fn work_off(&self, survey: &Arc<Survey>) -> Result<Vec<Problem>, Error> {
        let name = self.top.name.as_str();
        let mut planned = units::plan(&self.view(), name, &survey.tip, clock::now())?;
        for round in 0..2 {
            for command in std::mem::take(&mut planned.commands) {
                done(self.top.store.propose(vec![command]).await?)?;
            }
            let due = self.due(survey).await?;
            self.judge_all(&survey.tip.commit, due).await?;
            for command in units::finish(&self.view(), name)? {
                done(self.top.store.propose(vec![command]).await?)?;
            }
            if round == 0 && planned.again {
                // A folder is there again whose unit was about to go.
                planned = units::plan(&self.view(), name, &survey.tip, clock::now())?;
            } else {
                break;
            }
        }
        let view = self.view();
        let names: BTreeSet<&str> = self.names(&view).collect();
        self.lock().units.retain(|name, _| names.contains(name.as_str()));
        Ok(planned.problems)
    }

    /// Reads what a commit has directly in the path of the source, and whose it is.
    async fn survey(&self, tip: &CommitId) -> Result<Survey, Error> {
        let (mirror, keys, spec) =
            (self.top.mirror.clone(), self.top.keys.clone(), self.top.spec.clone());
        let known = {
            let shared = self.lock();
            let is_trusted = shared.trusted.as_ref() == Some(tip);
            (shared.rules.clone(), shared.folders.clone(), is_trusted)
        };
        let view = self.view();
        let source = view.get::<GitSource>("", &self.top.name);
        let before =
            source.and_then(|source| CommitId::parse(source.status.admitted_commit.as_deref()?));
        let commit = tip.clone();
        let read = move || {
            let reader = mirror.reader()?;
            let trust = match known.2 {
                true => Trust::default(),
                false => trust(&reader, &keys, (before.as_ref(), &spec), &commit, clock::now())?,
            };
            let rules = reader.read_path(&commit, render::IGNORE_FILE)?.unwrap_or_default();
            let known = if rules == known.0 { known.1 } else { BTreeMap::new() };
            surveyed(&reader, &spec, &commit, (&rules, known)).map(|found| (found, rules, trust))
        };
        let ((tip, folders, at), rules, trust) = tokio::task::spawn_blocking(read).await??;
        let ids = folders.iter().map(|(name, (id, _))| (name.clone(), *id)).collect();
        let mut shared = self.lock();
        (shared.rules, shared.folders) = (rules, folders);
        if trust.problems.is_empty() && shared.trusted.as_ref() != Some(&tip.commit) {
            shared.trusted = Some(tip.commit.clone());
            *self.vouched.lock().unwrap_or_else(PoisonError::into_inner) = trust.signature.clone();
        }
        Ok(Survey { tip, trust, ids, rules: at })
    }

    /// The units that a tip concerns.
    async fn due(&self, survey: &Arc<Survey>) -> Result<Vec<(Arc<Importer>, Look)>, Error> {
        let view = self.view();
        let mut asked = Vec::new();
        let folders = survey.tip.units();
        for importer in self.importers(&view) {
            let folder = importer.spec.path.rsplit('/').next().unwrap_or_default().to_owned();
            if folders.contains(folder.as_str()) {
                let judged = self.lock().units.get(&importer.name).and_then(|u| u.judged.clone());
                asked.push((importer, folder, judged));
            }
        }
        let is_new = self.lock().tip.as_ref() != Some(&survey.tip.commit);
        let (mirror, survey) = (self.top.mirror.clone(), survey.clone());
        let look = move || {
            let reader = mirror.reader()?;
            let mut looks = Vec::new();
            for (importer, folder, mut judged) in asked {
                let asked = Asked { view: &view, reader: &reader, survey: &survey, is_new };
                let look = asked.look(&importer, &folder, &mut judged)?;
                looks.push((importer, look, judged));
            }
            // What one was refused for another may have taken away.
            if looks.iter().any(|(_, look, _)| *look == Look::Yes) {
                for (importer, look, _) in looks.iter_mut().filter(|(_, look, _)| *look == Look::No)
                {
                    let source = view.get::<GitSource>("", &importer.name);
                    if source.is_some_and(|source| source.status.refused_commit.is_some()) {
                        *look = Look::Maybe;
                    }
                }
            }
            Ok::<_, Error>(looks)
        };
        let looks = tokio::task::spawn_blocking(look).await??;
        let mut shared = self.lock();
        for (importer, _, judged) in &looks {
            if let Some(unit) = shared.units.get_mut(&importer.name) {
                unit.judged.clone_from(judged);
            }
        }
        let due = looks.into_iter().filter(|(_, look, _)| *look != Look::No);
        Ok(due.map(|(importer, look, _)| (importer, look)).collect())
    }

    /// Judges units one after the other. Those that want what others may give up wait until these
    /// were judged.
    async fn judge_all(
        &self,
        tip: &CommitId,
        due: Vec<(Arc<Importer>, Look)>,
    ) -> Result<(), Error> {
        let claims = if due.len() > 1 { self.claims(tip, &due).await } else { BTreeMap::new() };
        let taken: BTreeSet<Key> = claims.values().flatten().cloned().collect();
        let (mut waiting, first): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|(importer, _)| claims.contains_key(&importer.name));
        let mut failed = None;
        for (importer, look) in first {
            failed = self.judge(&importer, look, tip, &taken).await.err().or(failed);
        }
        // Some of these may wait for each other.
        loop {
            let view = self.view();
            let is_free = |importer: &Importer| {
                let keys = claims.get(&importer.name).into_iter().flatten();
                keys.filter_map(|key| view.origin(key)).all(|origin| origin.source == importer.name)
            };
            let (free, rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(i, _)| is_free(i));
            waiting = rest;
            let is_last = free.is_empty();
            let now = if is_last { std::mem::take(&mut waiting) } else { free };
            for (importer, look) in now {
                failed = self.judge(&importer, look, tip, &taken).await.err().or(failed);
            }
            if is_last {
                break;
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Which units want what siblings hold that are looked at too.
    async fn claims(
        &self,
        tip: &CommitId,
        due: &[(Arc<Importer>, Look)],
    ) -> BTreeMap<String, BTreeSet<Key>> {
        let names: BTreeSet<String> =
            due.iter().map(|(importer, _)| importer.name.clone()).collect();
        let (view, names) = (self.view(), Arc::new(names));
        let (mut reading, mut claims) = (JoinSet::new(), BTreeMap::new());
        let mut due = due.iter();
        loop {
            while reading.len() < READERS_MAX
                && let Some((importer, _)) = due.next()
            {
                let (importer, view, tip) = (importer.clone(), view.clone(), tip.clone());
                let names = names.clone();
                reading.spawn(async move {
                    let read = importer.read(&tip, &view, clock::now(), Scope::Changed).await;
                    let claims = read.ok().and_then(|found| units::claims(&view, &found, &names));
                    (importer.name.clone(), claims)
                });
            }
            match reading.join_next().await {
                Some(Ok((name, Some(keys)))) => drop(claims.insert(name, keys)),
                Some(_) => {}
                None => return claims,
            }
        }
    }

    /// Makes a commit the head of a unit, or records why it was refused. What is wrong with Git or
    /// the log is told, and keeps the others from nothing.
    async fn judge(
        &self,
        importer: &Importer,
        look: Look,
        tip: &CommitId,
        taken: &BTreeSet<Key>,
    ) -> Result<(), Error> {
        let view = self.view();
        let judge = async {
            let mut candidate = importer.read(tip, &view, clock::now(), Scope::Changed).await?;
            units::hand_over(&mut candidate, taken);
            if units::is_known(&view, &candidate, look == Look::Maybe) {
                return Ok(());
            }
            tracing::info!(event = "commit seen", source = importer.name, commit = %tip);
            importer.settle(&view, candidate, &Recalled::default()).await
        };
        judge.await.inspect_err(|error| {
            tracing::warn!(event = "unit not judged", source = importer.name, %error);
        })
    }
}

type Surveyed = (Tip, Folders, At);

/// What a commit has directly in the path of a source; folders that are known are not read again.
fn surveyed(
    reader: &Reader,
    spec: &GitSourceSpec,
    commit: &CommitId,
    (rules, known): (&[u8], Folders),
) -> Result<Surveyed, Error> {
    let ignore = Ignore::parse(rules);
    let is_wanted = |path: &str| ignore.is_manifest(path);
    let trailers = reader.commit(commit)?.trailers;
    let mut tip = Tip {
        commit: commit.clone(),
        folders: BTreeMap::new(),
        beside: Vec::new(),
        trailers,
        problems: Vec::new(),
    };
    let at = reader.at(commit, render::IGNORE_FILE)?;
    let Some(listing) = reader.listing(commit, &spec.path)? else {
        let message =
            format!("is no folder of commit {}: create it, or change spec.path", commit.short());
        tip.problems.push(Problem { file: spec.path.clone(), message, ..Problem::default() });
        return Ok((tip, BTreeMap::new(), at));
    };
    let mut folders = BTreeMap::new();
    for (name, id) in listing.folders.into_iter().filter(|(name, _)| !name.starts_with('.')) {
        let folder = match known.get(&name).filter(|(before, _)| *before == id) {
            Some((_, folder)) => folder.clone(),
            None => Arc::new(folder(reader, id, &spec.path_of(&name), &is_wanted)?),
        };
        tip.folders.insert(name.clone(), folder.clone());
        folders.insert(name, (id, folder));
    }
    tip.beside = listing.files.into_iter().filter(|path| is_wanted(path)).collect();
    tip.problems = listing.problems;
    Ok((tip, folders, at))
}

fn folder(
    reader: &Reader,
    id: FolderId,
    path: &str,
    is_wanted: &dyn Fn(&str) -> bool,
) -> Result<Folder, Error> {
    let mut folder = Folder::default();
    for file in reader.files_in(id, path, is_wanted)? {
        folder.is_used = true;
        if Layout::is_kustomization(&file.path) {
            let (above, _) = file.path.rsplit_once('/').unwrap_or_default();
            folder.built.insert(above.to_owned());
            folder.names.extend(Layout::names_of(&file.path, &reader.read(file.blob)?));
        }
    }
    Ok(folder)
}

/// A tip, and who asks whether it concerns them.
struct Asked<'a> {
    view: &'a View,
    reader: &'a Reader,
    survey: &'a Survey,
    /// Whether the tip was not looked at before.
    is_new: bool,
}

impl Asked<'_> {
    /// Whether the tip concerns a unit. What its folder was when it was judged is looked up once.
    fn look(
        &self,
        importer: &Importer,
        folder: &str,
        before: &mut Option<(CommitId, Content)>,
    ) -> Result<Look, Error> {
        let (view, name, tip) = (self.view, importer.name.as_str(), &self.survey.tip.commit);
        let Some(source) = view.get::<GitSource>("", name) else { return Ok(Look::No) };
        let status = &source.status;
        let judged = status.judged.as_ref().filter(|_| guest::is_judged(name, source));
        let judged = judged.and_then(|judged| CommitId::parse(judged.commit.as_deref()?));
        let Some(judged) = judged else { return Ok(Look::Yes) };
        if judged == *tip {
            let news = is_news(view, name, tip, clock::now());
            return Ok(if news { Look::Yes } else { Look::No });
        }
        let here = (self.survey.ids.get(folder).copied(), self.survey.rules);
        if before.as_ref().is_none_or(|(commit, _)| *commit != judged) {
            // A commit that is gone from the remote and the mirror tells nothing.
            let path = &importer.spec.path;
            let found = self
                .reader
                .folder(&judged, path)
                .and_then(|folder| Ok((folder, self.reader.at(&judged, render::IGNORE_FILE)?)));
            *before = found.ok().map(|content| (judged.clone(), content));
        }
        let is_same = before.as_ref().is_some_and(|(_, content)| *content == here);
        if !is_same {
            return Ok(Look::Yes);
        }
        self.elsewhere(importer, (folder, source), &judged)
    }

    /// Whether a tip concerns a unit whose folder is as it was when it was judged.
    fn elsewhere(
        &self,
        importer: &Importer,
        (folder, source): (&str, &GitSource),
        judged: &CommitId,
    ) -> Result<Look, Error> {
        let (name, tip) = (importer.name.as_str(), &self.survey.tip);
        let known = importer.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_refused = source.status.refused_commit.is_some();
        let commit = self.view.commit_of(name, judged);
        let waits = commit.is_some_and(|commit| {
            commit.status.failure.is_some() || commit.status.state == CommitState::Held
        });
        let differs = match &known {
            Some(known) => known.reads_differ(self.reader, judged, &tip.commit).unwrap_or(true),
            None => false,
        };
        if differs || (is_refused || waits) && tip.asks_again() {
            return Ok(Look::Yes);
        }
        let own = format!("{}/", importer.spec.path);
        let leaves = tip
            .folders
            .get(folder)
            .is_some_and(|folder| folder.names.iter().any(|path| !path.starts_with(&own)));
        let again = is_refused && self.is_new || is_news(self.view, name, judged, clock::now());
        Ok(if again || known.is_none() && leaves { Look::Maybe } else { Look::No })
    }
}
