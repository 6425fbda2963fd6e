-- The counters of quotas in Redis: reserve, settle, beat and leave, each as one atomic step. redis.py calls them.
-- It counts as windows.py does, where the reasons are; tests/tenants/test_quotas_agree.py compares the two.
--
-- KEYS  1  gateways: sorted set, gateway -> when it was last heard of
--       2  leases of this gateway: hash, lease -> the second in which it was reserved
--       3  set if this lease was cancelled before it was known to be held
--       4- one for each limit: a hash. A minute's has `newest`, `amount` and a field for each second; a day's and a
--          month's have `start`, `spent` and `seeded`; these and the concurrent requests' have a field `held:<gateway>`
--          for each gateway, so that what a dead one held can be left out
-- ARGV  1  command   2  now, or '' for Redis's own time   3  gateway   4  lease
--       5  seconds after which a silent gateway is dead   6- what the command adds
local MINUTE, SLOTS, DAY = 60, 61, 86400
local FORGET_GATEWAY, FORGET_CANCELLED = 3600, 60
local KEEP = {
    requests_per_minute = 2 * MINUTE,
    tokens_per_minute = 2 * MINUTE,
    tokens_per_day = 2 * DAY,
    tokens_per_month = 33 * DAY,
    concurrent_requests = DAY,
}

local gateways, leases, cancelled = KEYS[1], KEYS[2], KEYS[3]
local command, gateway, lease, silence = ARGV[1], ARGV[3], ARGV[4], tonumber(ARGV[5])
local mine = 'held:' .. gateway
local time = redis.call('TIME')
local real = tonumber(time[1]) + tonumber(time[2]) / 1e6
local now = ARGV[2] == '' and real or tonumber(ARGV[2])

local function is_minute(kind) return kind == 'requests_per_minute' or kind == 'tokens_per_minute' end
local function is_period(kind) return kind == 'tokens_per_day' or kind == 'tokens_per_month' end

local function fields_of(key)
    local flat, fields = redis.call('HGETALL', key), {}
    for index = 1, #flat, 2 do fields[flat[index]] = flat[index + 1] end
    return fields
end

-- Gateways -----------------------------------------------------------------------------------------------------------

local last_heard = redis.call('ZSCORE', gateways, gateway)
local is_known = last_heard ~= false

local function beat()
    if is_known and real - tonumber(last_heard) < silence / 20 then return end -- most reserves need not say it again
    redis.call('ZADD', gateways, real, gateway)
    redis.call('EXPIRE', gateways, DAY)
    redis.call('EXPIRE', leases, 2 * FORGET_GATEWAY)
end

local heard_of = {}
-- Always by Redis's clock. A silent gateway does not count, but may come back; one that is forgotten comes as another.
local function state_of(other)
    if not heard_of[other] then
        local heard = redis.call('ZSCORE', gateways, other)
        heard_of[other] = not heard and 'forgotten' or real - tonumber(heard) > silence and 'silent' or 'alive'
    end
    return heard_of[other]
end

local function held_by_all(key, fields)
    local held = 0
    for field, amount in pairs(fields) do
        local holder = string.match(field, '^held:(.*)$')
        local state = holder and state_of(holder)
        if state == 'alive' then
            held = held + tonumber(amount)
        elseif state == 'forgotten' then
            redis.call('HDEL', key, field)
        end
    end
    return held
end

local function release(key, amount)
    local held = tonumber(redis.call('HGET', key, mine) or 0)
    if held > amount then
        redis.call('HINCRBY', key, mine, -amount)
    else
        redis.call('HDEL', key, mine)
    end
end

-- Any 60 seconds -----------------------------------------------------------------------------------------------------

-- Takes out what has expired. The rest of the hash says so too, unless nothing had: then there is nothing to write.
local function expire(key, newest, amount, second)
    local slots, expired = {}, {}
    for slot = newest - MINUTE, second - SLOTS do slots[#slots + 1] = slot end
    for index, found in ipairs(redis.call('HMGET', key, unpack(slots))) do
        if found then
            amount = amount - tonumber(found)
            expired[#expired + 1] = slots[index]
        end
    end
    if #expired > 0 then
        redis.call('HDEL', key, unpack(expired))
        redis.call('HSET', key, 'newest', second, 'amount', amount)
    end
    return amount
end

-- The newest second, the amount, and how much of it is in that second: nil if nothing has been put there.
local function window(key)
    local second = math.floor(now)
    local found = redis.call('HMGET', key, 'newest', 'amount', second)
    if not found[1] then return second, 0, nil end
    local newest, amount = tonumber(found[1]), tonumber(found[2])
    local passed = second - newest
    if passed >= SLOTS or passed <= -SLOTS then
        redis.call('DEL', key)
        return second, 0, nil
    end
    if passed > 0 then return second, expire(key, newest, amount, second), nil end
    if passed < 0 then return newest, amount, tonumber(redis.call('HGET', key, newest) or 0) end
    return newest, amount, found[3] and tonumber(found[3]) or nil
end

local function frees_at(key, newest, over)
    local fields = fields_of(key)
    for slot = newest - MINUTE, newest do
        over = over - tonumber(fields[string.format('%d', slot)] or 0)
        if over <= 0 then return slot + SLOTS end
    end
    return 0
end

local function empty_at(key, newest)
    local fields = fields_of(key)
    for slot = newest, newest - MINUTE, -1 do
        if tonumber(fields[string.format('%d', slot)] or 0) ~= 0 then return slot + SLOTS end
    end
    return 0
end

-- UTC days and months ------------------------------------------------------------------------------------------------

-- The first day of a day's month, both since the epoch (https://howardhinnant.github.io/date_algorithms.html).
local function month_start(day)
    local days = day + 719468
    local of_era = days % 146097
    local year = math.floor(
        (of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524) - math.floor(of_era / 146096)) / 365)
    local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
    local month = math.floor((5 * of_year + 2) / 153)
    return day - (of_year - math.floor((153 * month + 2) / 5))
end

local function span(kind)
    local day = math.floor(now / DAY)
    if kind == 'tokens_per_day' then return day * DAY, (day + 1) * DAY end
    local first = month_start(day)
    return first * DAY, month_start(first + 32) * DAY
end

-- Commands -----------------------------------------------------------------------------------------------------------

-- What one limit has, with a seed written into it if it needs one and has come. wanted: it needs one that has not come.
local function look(counter)
    if is_minute(counter.kind) then
        counter.newest, counter.used, counter.in_newest = window(counter.key)
        return
    end
    local fields = fields_of(counter.key)
    counter.held = held_by_all(counter.key, fields)
    counter.used = counter.held
    if not is_period(counter.kind) then return end
    counter.start, counter.ending = span(counter.kind)
    local current = tonumber(fields.start) == counter.start
    local spent = current and tonumber(fields.spent) or 0
    if not (current and fields.seeded) then
        if tonumber(counter.seed_start) == counter.start then
            spent = math.max(spent, tonumber(counter.seed))
            redis.call('HSET', counter.key, 'start', counter.start, 'spent', spent, 'seeded', 1)
            redis.call('EXPIRE', counter.key, KEEP[counter.kind])
        else
            counter.wanted = true
        end
    end
    counter.used = counter.held + spent
end

local function hold(counter)
    local key, kind, ask = counter.key, counter.kind, counter.ask
    if is_minute(kind) then
        local in_newest = (counter.in_newest or 0) + ask
        redis.call('HSET', key, 'newest', counter.newest, 'amount', counter.used + ask, counter.newest, in_newest)
        if counter.in_newest then return end -- it was put off in this second already
    else
        redis.call('HINCRBY', key, mine, ask)
    end
    redis.call('EXPIRE', key, KEEP[kind])
end

local function reading(answer, counter, refused)
    local over, free, empty = counter.used + counter.ask - counter.limit, 0, 0
    if is_minute(counter.kind) then
        if refused and over > 0 then free = frees_at(counter.key, counter.newest, over) end
        empty = (not refused and counter.ask > 0) and counter.newest + SLOTS or empty_at(counter.key, counter.newest)
    elseif refused and over > 0 and counter.ending then
        free = counter.ending
    end
    for _, number in ipairs({ counter.used, counter.held or 0, free, empty }) do answer[#answer + 1] = number end
end

-- ARGV  6  '1': this gateway has not been heard of yet   7  '1': ask for seeds   8-  for each limit its kind, the
-- limit, what is asked, and a seed with the beginning of its period or '' and ''
local function reserve()
    if redis.call('EXISTS', cancelled) == 1 then return { 'cancelled' } end
    if ARGV[6] ~= '1' and not is_known then return { 'forgotten' } end
    beat()

    local counters, wanted, refused = {}, {}, false
    for index = 1, #KEYS - 3 do
        local at = 3 + 5 * index
        local counter = {
            key = KEYS[3 + index], kind = ARGV[at], limit = tonumber(ARGV[at + 1]), ask = tonumber(ARGV[at + 2]),
            seed = ARGV[at + 3], seed_start = ARGV[at + 4],
        }
        look(counter)
        counters[index] = counter
        refused = refused or counter.used + counter.ask > counter.limit
        if counter.wanted then
            wanted[#wanted + 1] = index - 1
            wanted[#wanted + 1] = counter.start
        end
    end
    if ARGV[7] == '1' and #wanted > 0 then return { 'seeds', unpack(wanted) } end

    if not refused then
        for _, counter in ipairs(counters) do hold(counter) end
        redis.call('HSET', leases, lease, math.floor(now))
        redis.call('EXPIRE', leases, 2 * FORGET_GATEWAY)
    end
    local answer = { refused and 'refused' or 'held', string.format('%.17g', now) }
    for _, counter in ipairs(counters) do reading(answer, counter, refused) end
    return answer
end

local function settle_window(key, slot, held, spent)
    local newest, amount = window(key)
    if slot <= newest - SLOTS or slot > newest then return end
    local in_slot = tonumber(redis.call('HGET', key, slot) or 0)
    local change = math.max(spent - held, -in_slot)
    redis.call('HSET', key, 'newest', newest, 'amount', amount + change, slot, in_slot + change)
end

local function settle_period(key, kind, held, spent)
    release(key, held)
    local start = span(kind)
    if tonumber(redis.call('HGET', key, 'start') or -1) == start then
        redis.call('HINCRBY', key, 'spent', spent)
    else
        redis.call('HDEL', key, 'seeded')
        redis.call('HSET', key, 'start', start, 'spent', spent)
    end
end

-- ARGV  6  '1': the lease may never have been held   7  tokens spent   8-  for each limit its kind and what was held
local function settle()
    local slot = redis.call('HGET', leases, lease)
    if not slot then
        -- A connection that was given up may still bring the reserve, after this.
        if ARGV[6] == '1' then redis.call('SET', cancelled, 1, 'EX', FORGET_CANCELLED) end
        return is_known and 'again' or 'unknown'
    end
    redis.call('HDEL', leases, lease)
    for index = 1, #KEYS - 3 do
        local key, kind = KEYS[3 + index], ARGV[6 + 2 * index]
        local held, spent = tonumber(ARGV[7 + 2 * index]), tonumber(ARGV[7])
        if kind == 'tokens_per_minute' then
            settle_window(key, tonumber(slot), held, spent)
        elseif is_period(kind) then
            settle_period(key, kind, held, spent)
        elseif kind == 'concurrent_requests' then
            release(key, held)
        end
        redis.call('EXPIRE', key, KEEP[kind])
    end
    return 'settled'
end

if command == 'reserve' then return reserve() end
if command == 'settle' then return settle() end
if command == 'beat' then
    -- ARGV  6  as in reserve
    if ARGV[6] ~= '1' and not is_known then return 'forgotten' end
    beat()
    redis.call('ZREMRANGEBYSCORE', gateways, '-inf', real - FORGET_GATEWAY)
    return 'heard'
end
if command == 'leave' then
    redis.call('ZREM', gateways, gateway)
    redis.call('DEL', leases)
    return 'left'
end
return redis.error_reply('no such command')
