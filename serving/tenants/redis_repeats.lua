-- One name of serving/tenants/redis_repeats.py: a hash of body, attempt and, once there is one, answer. Its time to
-- live is the hold's, then the answer's.
local key, command, attempt = KEYS[1], ARGV[1], ARGV[2]

if command == 'begin' then
  local body, life = ARGV[3], ARGV[4]
  local found = redis.call('HMGET', key, 'body', 'answer')
  if not found[1] then
    redis.call('HSET', key, 'body', body, 'attempt', attempt)
    redis.call('PEXPIRE', key, life)
    return {'held'}
  end
  if found[1] ~= body then return {'reused'} end
  if not found[2] then return {'running'} end
  return {'kept', found[2]}
end

if redis.call('HGET', key, 'attempt') ~= attempt or redis.call('HEXISTS', key, 'answer') == 1 then return {'gone'} end
if command == 'release' then
  redis.call('DEL', key)
elseif command == 'renew' then
  redis.call('PEXPIRE', key, ARGV[3])
elseif command == 'keep' then
  redis.call('HSET', key, 'answer', ARGV[3])
  redis.call('PEXPIRE', key, ARGV[4])
end
return {'done'}
