#!/usr/bin/env bash
# The pictures in README and docs/, made anew from real runs on the simulated
# homelab: docs/pictures.sh, or docs/pictures.sh NAME… for some. Needs tmux.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
command -v tmux >/dev/null || { echo "pictures.sh: tmux is missing" >&2; exit 1; }
(cd "$root" && CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/...)
. "$root/docs/lab.sh"
svg=$dir/termsvg
(cd "$root" && go build -o "$svg" ./docs/internal/termsvg)
export LC_ALL=C.UTF-8 PS1='$ '
unset NO_COLOR TMUX
sock=$dir/tmux
tmux() { command tmux -u -S "$sock" -f /dev/null "$@"; }
trap 'tmux kill-server 2>/dev/null || true; end_lab; rm -rf "$dir"' EXIT
only=("$@")
wanted() { [ ${#only[@]} = 0 ] || [[ " ${only[*]} " == *" $1 "* ]]; }

# run COLUMNSxROWS COMMANDLINE: types it on a terminal of that size. The file
# "over" is there when it has ended.
run() {
  rm -f over
  printf '%s\n' "$2" >line
  tmux kill-server 2>/dev/null || true
  tmux new-session -d -x "${1%x*}" -y "${1#*x}" \
    'printf "\033[1m$ %s\033[0m\n" "$(cat line)"; . ./line; touch over; sleep 1000'
}
screen() { tmux capture-pane -e -p; }

# shot NAME COLUMNSxROWS TITLE COMMANDLINE [TEXT]: the screen when the command
# has ended, or when TEXT is on it. Empty rows at the bottom are left out.
shot() {
  wanted "$1" || return 0
  run "$2" "$4"
  for _ in $(seq 1200); do
    [ -e over ] && break
    [ -z "${5:-}" ] || ! screen | grep -qF -- "$5" || break
    sleep 0.1
  done
  sleep 0.2
  screen | "$svg" -title "$3" >"$root/docs/$1.svg"
  echo "docs/$1.svg"
}

# film NAME COLUMNSxROWS TITLE COMMANDLINE [QUICK]: all that is on the screen
# while the command runs. A screen that stands longer than QUICK ms (default 2000)
# is cut down to that; the last one stays for 8 s.
film() {
  wanted "$1" || return 0
  run "$2" "$4"
  local before='' now since at
  since=$(date +%s%3N)
  : >film
  while :; do
    now=$(screen) && at=$(date +%s%3N)
    if [ "$now" != "$before" ] && [ -n "$before" ]; then
      at=$((at - since))
      printf '%s\n\f%d\n' "$before" $((at > ${5:-2000} ? ${5:-2000} : at)) >>film
      since=$(date +%s%3N)
    fi
    before=$now
    [ ! -e over ] || break
    sleep 0.2
  done
  sleep 0.2
  printf '%s\n\f8000\n' "$(screen)" >>film
  "$svg" -title "$3" <film >"$root/docs/$1.svg"
  echo "docs/$1.svg"
}
fresh() { post POST /reset '' >/dev/null; rm -rf "$XDG_STATE_HOME"; }
sure='--yes --accept-risk=lose-management'

start_lab

if wanted plan; then
  fresh
  labctl host learn nuc01 >/dev/null 2>&1
  shot plan 112x48 "What labctl net plan shows: the switches before and after the move, each change, and who takes it back" \
    "labctl net plan nuc01 --to standard"
fi

if wanted rescue; then
  fresh
  # What a user has: facts that labctl has learned while the API answered, and the
  # two that no API tells.
  cp labctl.yaml given.yaml
  sed -i '0,/^  facts:/{//!b};/^  facts:/,/^- name: nested/{/^  facts:/!{/^- name:/!d};s/.*facts:/&\n    lockdown_item: dimmed\n    wrap: "no"/}' labctl.yaml
  labctl config check >/dev/null 2>&1
  labctl host learn nuc01 >/dev/null 2>&1
  post POST /fault '{"fault":"wire-vlan","host":"nuc01","vlan":999}' >/dev/null
  labctl net apply nuc01 --to standard $sure --timeout 2s >/dev/null 2>&1 || true
  film rescue 100x42 "nuc01 is gone from the network; labctl types the way back into its console, and the host answers again" \
    "labctl recipe run restore-standard-switch --host nuc01 --yes"
  mv given.yaml labctl.yaml
fi
