-- Asks the verifier about a request, and refuses the request with its answer, or sets the identity.

-- In milliseconds. HAProxy tries four times, which is longer than the verifier's own limits, so that its 503 comes
-- first. A try that comes second waits for the same load.
local TIMEOUT = 1500

-- Headers that belong to a connection or to a body, which the verifier does not get.
local NOT_SENT = {}
for name in ([[connection keep-alive te trailer transfer-encoding upgrade proxy-connection
        content-length expect host]]):gmatch("%S+") do
    NOT_SENT[name] = true
end

local IDENTITY = { "x-api-token-id", "x-api-token-tenant", "x-api-token-app", "x-api-token-type" }
local PASSED_ON = { "www-authenticate", "retry-after", "cache-control", "content-type", "vary" }

-- HAProxy counts the values of a header from 0.
local function values(headers, name)
    local found = {}
    local field = headers[name]
    while field and field[#found] do
        found[#found + 1] = field[#found]
    end
    return found
end

core.register_action("verify", { "http-req" }, function(txn, url)
    local request = txn.http:req_get_headers()
    local headers = {}
    for name in pairs(request) do
        if not NOT_SENT[name] then
            headers[name] = values(request, name)
        end
    end
    headers["x-forwarded-method"] = { txn.f:method() }

    local answer = core.httpclient():get { url = url, headers = headers, timeout = TIMEOUT }
    if answer == nil or answer.status == nil or answer.headers == nil then
        return
    end
    if answer.status == 200 then
        for _, name in ipairs(IDENTITY) do
            txn.http:req_set_header(name, values(answer.headers, name)[1] or "")
        end
        txn:set_var("txn.verified", true)
        return
    end
    -- Without Retry-After, a 503 or 504 is HAProxy's own, because the verifier does not answer. The next rule refuses.
    local is_client_error = answer.status >= 400 and answer.status < 500
    if is_client_error or #values(answer.headers, "retry-after") > 0 then
        local reply = txn:reply { status = answer.status, body = answer.body }
        for _, name in ipairs(PASSED_ON) do
            for _, value in ipairs(values(answer.headers, name)) do
                reply:add_header(name, value)
            end
        end
        txn:done(reply)
    end
end, 1)
