module contest-foreign-clients

go 1.25

require (
	github.com/creachadair/jrpc2 v1.3.4
	github.com/gorilla/websocket v1.5.3
	github.com/sourcegraph/jsonrpc2 v0.2.3
)

require (
	github.com/creachadair/mds v0.25.13 // indirect
	golang.org/x/sync v0.18.0 // indirect
)
