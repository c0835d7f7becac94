# What the stories share: words, a cluster of their own, a clone of its repository. Sourced by
# <story>/run, which says what it shows.
# shellcheck shell=bash
set -euo pipefail

# Longest to wait for anything: seconds, on a busy machine tens of seconds.
readonly WAIT_SECONDS_MAX=180
# The same page as the quickstart's: `/` says which version answers, BROKEN=1 is never ready.
readonly IMAGE=mainstay-quickstart/web:1
# What the story about hooks runs.
readonly MIGRATION=mainstay-examples/migrate:1

examples=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
story=$(basename "$(cd "$(dirname "$0")" && pwd)")
target=${CARGO_TARGET_DIR:-$examples/../target}
dir=${HOME:-/root}/.mainstay-examples
mainstay=${MAINSTAY:-}
export PATH="$PATH:/usr/sbin:/sbin"

# --- words -----------------------------------------------------------------------------------

if [ -t 1 ]; then bold=$'\e[1m' plain=$'\e[0m'; else bold='' plain=''; fi

step() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
say() { printf '   %s\n' "$*"; }
show() { sed 's/^/   | /'; }
fail() {
  printf '%s: %s\n' "$story" "$*" >&2
  exit 1
}

# shows TEXT COMMAND...: runs it, shows what it says, and fails unless the text is in there.
shows() {
  local text=$1 said
  shift
  said=$("$@" 2>&1) || { show <<<"$said"; fail "this failed: $*"; }
  show <<<"$said"
  [[ $said == *"$text"* ]] || fail "nothing says \"$text\": $*"
}

# soon COMMAND...: tries until it succeeds.
soon() {
  local deadline=$((SECONDS + WAIT_SECONDS_MAX))
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || fail "this did not come true: $*"
    sleep 0.3
  done
}

# says TEXT COMMAND...: whether the text is in what it says.
says() {
  local text=$1
  shift
  [[ $("$@" 2>&1) == *"$text"* ]]
}

# --- the cluster -----------------------------------------------------------------------------

ms() {
  local verb=$1
  shift
  "$mainstay" "$verb" --dir "$dir" "$@"
}

in_git() {
  GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 \
    git -c user.name=Ann -c user.email=ann@example.org -c core.hooksPath=/dev/null -C "$site" "$@"
}

# Finds mainstay; builds it when nobody has.
find_mainstay() {
  local built
  for built in "$mainstay" "$target/release/mainstay" "$target/debug/mainstay"; do
    [ -z "$built" ] || [ ! -x "$built" ] || { mainstay=$built; return; }
  done
  command -v cargo >/dev/null || fail "cargo is needed to build mainstay: https://rustup.rs"
  say "cargo build   (the first one takes some minutes)"
  (cd "$examples/.." && cargo build --locked --quiet)
  mainstay=$target/debug/mainstay
}

# make_program SOURCE IMAGE: one static program, so that its image holds nothing else and nothing is
# pulled.
make_program() {
  docker image inspect "$2" >/dev/null 2>&1 && return
  local made
  made=$(mktemp -d)
  rustc --edition 2024 -O -C target-feature=+crt-static -C panic=abort -o "$made/run" "$1"
  tar -C "$made" -c --owner=0 --group=0 run |
    docker import --change 'ENTRYPOINT ["/run"]' - "$2" >/dev/null
  rm -rf "$made"
}

clean_up() {
  if [ -e "$dir" ]; then
    say "mainstay dev stop --clean --dir $dir"
    ms dev stop --clean
  fi
  # The quickstart may still run it.
  docker image rm "$IMAGE" "$MIGRATION" >/dev/null 2>&1 || true
  rm -rf "$dir" "$dir-site" "$dir-backup"
  say "clean"
  exit 0
}

# begin "$@": reads the arguments, starts the cluster that all stories share (or finds it running)
# and clones its repository. The story's own folder in it is empty then.
begin() {
  local clean=false tool
  while [ "$#" -gt 0 ]; do
    case $1 in
    --clean) clean=true ;;
    --dir)
      [ "$#" -gt 1 ] || fail "--dir needs a folder"
      dir=$(realpath -m "$2")
      shift
      ;;
    *) fail "usage: $0 [--dir DIR] [--clean]" ;;
    esac
    shift
  done
  [ "$(id -u)" -eq 0 ] || fail "root is needed for containers and iptables rules"
  for tool in git curl kubectl docker; do
    command -v "$tool" >/dev/null || fail "$tool is needed"
  done
  timeout 10 docker version >/dev/null 2>&1 ||
    fail "no Docker answers: start it, or run examples/quickstart/run, which does"
  find_mainstay
  ! $clean || clean_up
  make_program "$examples/quickstart/web.rs" "$IMAGE"
  if ! ms status -o json >/dev/null 2>&1; then
    say "mainstay dev --dir $dir --detach"
    ms dev --detach </dev/null 2>&1 | show
  fi
  export KUBECONFIG=$dir/kubeconfig
  site=$dir-site
  rm -rf "$site"
  git clone -q "$dir/repo.git" "$site" 2>/dev/null
  in_git checkout -q -B main
  ! in_git rev-parse -q --verify origin/main >/dev/null || in_git reset -q --hard origin/main
  # What no story takes out: a commit without any object is refused.
  [ -e "$site/stories.yaml" ] ||
    printf '{apiVersion: v1, kind: ConfigMap, metadata: {name: stories}}\n' >"$site/stories.yaml"
  if [ -e "$site/$story" ]; then
    in_git rm -q -r "$story"
    commit "$story: begins anew" "Prune-Approved: yes"
    healthy
  fi
  mkdir -p "$site/$story"
}

# commit SUBJECT [TRAILER]: commits what is there and pushes it; leaves its id in `id`.
commit() {
  in_git add -A
  in_git commit -q --allow-empty -m "$1" ${2:+-m "$2"}
  push main
}

# push BRANCH: what the cluster says of it comes back with it.
push() {
  in_git push -q origin "HEAD:refs/heads/$1" 2>&1 | sed 's/^remote: //; s/ *$//' | show
  id=$(in_git rev-parse HEAD)
  say "git push: $(in_git log -1 --format='%h %an: %s')"
}

# Waits until the newest commit of the clone runs, and everything in it.
healthy() { ms wait --commit "$(in_git rev-parse HEAD)" --timeout "${WAIT_SECONDS_MAX}s" | show; }

pull() { in_git pull -q --ff-only origin main; }

# web VERSION [BROKEN]: the page of the story, as manifests.
web() {
  cat <<YAML
# The page of this story.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: $story
spec:
  replicas: 1  # enough for a page
  selector:
    matchLabels: {app: $story}
  template:
    metadata:
      labels: {app: $story}
    spec:
      containers:
        - name: web
          image: $IMAGE
          imagePullPolicy: Never
          env:
            - {name: VERSION, value: "$1"}
            - {name: BROKEN, value: "${2:-0}"}
            - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
            # Another page each time: what failed once is not run again.
            - {name: STORY, value: "$$"}
          readinessProbe:
            httpGet: {path: /ready, port: 8080}
            periodSeconds: 1
---
apiVersion: v1
kind: Service
metadata:
  name: $story
spec:
  selector: {app: $story}
  ports:
    - {port: 80, targetPort: 8080}
YAML
}

# page: what the page says now, through the Service's address.
page() {
  curl -sS --max-time 5 "http://$(kubectl get service "$story" -o 'jsonpath={.spec.clusterIP}')"
}

# answers VERSION: waits until the page says nothing but that version. The pods of the one before may
# answer for a tenth of a second after their commit is healthy.
answers() {
  soon steadily "version $1 "
  shows "version $1 " page
}

# steadily TEXT: whether the page says it for half a second.
steadily() {
  local _
  for _ in {1..10}; do
    says "$1" page || return 1
    sleep 0.05
  done
}
