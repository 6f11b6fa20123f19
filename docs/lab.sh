# Sourced by demo.sh and pictures.sh: a labsim of one's own, in a temporary
# folder that goes with it. start_lab [FLAG…] sets lab, control and LABCTL_CONFIG.
bin=$(cd "$(dirname "${BASH_SOURCE[0]}")/../bin" && pwd)
dir=$(mktemp -d)
lab=
end_lab() {
  [ -z "$lab" ] || { kill -INT "$lab" 2>/dev/null; wait "$lab" 2>/dev/null; } || true
  lab=
}
trap 'end_lab; rm -rf "$dir"' EXIT
cd "$dir"
export PATH="$bin:$PATH" HOME="$dir" XDG_STATE_HOME="$dir/state" XDG_DATA_HOME="$dir/data" LABCTL_CONFIG="$dir/labctl.yaml"

start_lab() {
  labsim --write-config labctl.yaml "$@" >ready 2>how &
  lab=$!
  for _ in $(seq 200); do grep -q ready ready && break; kill -0 "$lab" 2>/dev/null || { cat how >&2; exit 1; }; sleep 0.1; done
  control=$(awk '/^control/ {print $2}' how)
}

post() { # METHOD PATH JSON, to labsim's control address: bash speaks enough HTTP for this
  local at=${control#http://} answer
  exec 3<>"/dev/tcp/${at%:*}/${at#*:}"
  printf '%s %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s' "$1" "$2" "$at" "${#3}" "$3" >&3
  answer=$(cat <&3)
  exec 3>&-
  [[ $answer == *" 200 "* ]] || { echo "labsim: $answer" >&2; return 1; }
  printf '%s' "$answer"
}
