#!/usr/bin/env bash
# What `make demo` runs: the three jobs and a rescue, on the simulated homelab, as a user
# would see them. Everything it writes is in a temporary folder that goes with it.
set -euo pipefail
. "$(dirname "$0")/lab.sh"

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
[ -t 1 ] && [ -z "${NO_COLOR:-}" ] || say() { printf '\n# %s\n' "$*"; }
run() {
  printf '$ %s\n' "$*"
  "$@" 2>&1
}
sure=(--yes --accept-risk=lose-management)

say "a homelab in one process: a vCenter, and the ESXi host that it manages"
echo '$ labsim --write-config labctl.yaml &'
start_lab
cat how

say "the host: its only uplink and vmk0 are on a Distributed vSwitch"
run labctl net show nuc01

say "what a move to a standard switch would change; nothing is touched yet"
run labctl net plan nuc01 --to standard --out nuc01-plan.json

say "the move: uplink, vmk0 and port groups in one transaction, then the virtual machines"
run labctl net apply nuc01-plan.json "${sure[@]}"

say "read back from the host itself this time, not from vCenter"
run labctl net show nuc01 --via esxi

say "the same plan again is stale, and labctl says so"
run labctl net apply nuc01-plan.json "${sure[@]}" || echo "(exit $?)"

say "and back to the Distributed vSwitch"
run labctl net apply nuc01 --to distributed "${sure[@]}"
run labctl net status nuc01

# Two bad nights. The faults are labsim's: see labsim --list-faults.

say "the answer to the change gets lost on its way: labctl does not believe the silence, it looks"
post POST /fault '{"fault":"answer-lost","method":"UpdateNetworkConfig","count":1}' >/dev/null
run labctl net apply nuc01 --to standard "${sure[@]}"

say "labctl is killed right after it sent the way back; the journal knows what was meant"
post POST /fault '{"fault":"hold","call":1,"when":"after","method":"UpdateNetworkConfig"}' >/dev/null
echo '$ labctl net apply nuc01 --to distributed &  kill -9 $!'
labctl net apply nuc01 --to distributed "${sure[@]}" >/dev/null 2>&1 &
victim=$!
until [[ $(post GET /state '') == *'"held": 1'* ]]; do sleep 0.05; done
kill -9 "$victim"; wait "$victim" 2>/dev/null || true
post POST /release '' >/dev/null
post DELETE /fault '' >/dev/null
run labctl net status nuc01 || echo "(exit $?)"
run labctl net resume nuc01 --yes

say "what is left over on purpose, and when it may go"
run labctl net cleanup nuc01
run labctl net cleanup nuc01 --yes
run labctl net show nuc01

say "the worst night: the wire drops the management VLAN, vCenter's own rollback cannot help, and the host is gone"
say "--rescue has proved its recipe and its keyboard before anything was changed; now it types (a real window is 50 s, not 5)"
post POST /reset '' >/dev/null
post POST /fault '{"fault":"wire-vlan","host":"nuc01","vlan":999}' >/dev/null
run labctl net apply nuc01 --to standard "${sure[@]}" --rescue restore-standard-switch --timeout 5s || echo "(exit $?: the host is back, and not as planned; labctl says what is left)"

say "what to do next is known too: the machines are still on a switch without an uplink"
run labctl net status nuc01 || echo "(exit $?)"
run labctl net resume nuc01 --yes
sleep 3 # until vCenter has the host back
run labctl net cleanup nuc01 --yes
run labctl net show nuc01
post DELETE /fault '' >/dev/null
post POST /reset '' >/dev/null

say "the second job: a host that no API reaches, and a keyboard that nobody watches"
say "counting keys is dangerous: the same keys restore the network of one host and wipe that of another"
run labctl recipe check seed-restore-standard-switch || echo "(exit $?)"

say "a recipe names what it wants; the keys are found for what is known of nuc01, and rehearsed on the model"
run labctl recipe rehearse restore-standard-switch --host nuc01

say "the third job: a Virtual Container Host for an afternoon"
run labctl vch up t1
run labctl vch ls
run labctl vch inspect t1
run labctl vch test t1
run labctl vch down t1 --yes
run labctl vch ls
