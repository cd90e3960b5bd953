# Stops the servers of the folder $1 once no user process is left.
# Run by `sh -c`, in a session of its own; see the essay in lib.rs.
set -f
cd "$1" || exit 1
exec 7<>keeper.lock 8<>users.lock 9<>start.lock
flock -n 7 || exit 0 # another keeper is on duty

# The folder may be deleted, and made anew, while we wait. A new one has a keeper of its own.
is_ours() { [ users.lock -ef /proc/$$/fd/8 ]; }

# Fills $targets with lines of "PID STARTED SIGNAL". A deleted folder leaves what we last read.
remember() {
    is_ours || return 0
    found=$(sed -n \
        -e 'h; s/.*"postgres":{"port":[0-9]*,"pid":\([0-9]*\),"started":\([0-9]*\)}.*/\1 \2 INT/p' \
        -e 'g; s/.*"redis":{"port":[0-9]*,"pid":\([0-9]*\),"started":\([0-9]*\)}.*/\1 \2 TERM/p' \
        servers.json 2>/dev/null)
    [ -z "$found" ] || targets=$found
}

# alive PID STARTED: the same process still runs, and is not a zombie.
alive() {
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    set -- "$2" ${stat##*) }
    [ "$2" != Z ] && [ "$2" != X ] && [ "${21}" = "$1" ]
}

# stop PID STARTED SIGNAL: asks, waits ten seconds, kills.
stop() {
    alive "$1" "$2" || return 0
    kill -s "$3" "$1"
    tries=100
    while alive "$1" "$2"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || { kill -s KILL "$1"; return; }
        sleep 0.1
    done
}

# Commands that take a while do without descriptor 7: they may outlive a killed keeper, and would
# hold keeper.lock as if it were still on duty.
while :; do
    # An exclusive lock is granted once every user process has dropped its shared one.
    until flock -w 2 8 7>&-; do remember; done
    flock -u 8
    sleep 1.5 7>&- # consecutive test programs find the servers still running
    flock 9 7>&- # nobody starts or attaches from here on
    flock -n 8 && break
    flock -u 9 # somebody attached during the sleep, and wins
done

remember
printf '%s\n' "$targets" | while read -r pid started signal; do
    [ -z "$pid" ] || stop "$pid" "$started" "$signal"
done
if is_ours; then rm -f servers.json; fi
flock -u 7 # before start.lock, so that the next user sees that it needs a new keeper
