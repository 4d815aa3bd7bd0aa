-- One document.
-- ARGV: clock offset, document id
-- Returns the record, or nil.

local doc = read(ARGV[2])
return doc and record(ARGV[2], doc)
