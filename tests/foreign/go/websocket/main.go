// Asks a server over a websocket with github.com/sourcegraph/jsonrpc2, and prints what came as one JSON object.
//
// The argument is the address. This client has no batches.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"os"
	"time"

	"github.com/gorilla/websocket"
	"github.com/sourcegraph/jsonrpc2"
	stream "github.com/sourcegraph/jsonrpc2/websocket"
)

type object = map[string]any

// What the server tells: notifications of a watch.
type listener struct {
	events []string
	ended  chan string
}

func (l *listener) Handle(_ context.Context, _ *jsonrpc2.Conn, request *jsonrpc2.Request) {
	var told struct {
		Event  struct{ Data struct{ EventName string } }
		Cursor string
	}
	check(json.Unmarshal(*request.Params, &told))
	switch request.Method {
	case "event":
		l.events = append(l.events, told.Event.Data.EventName)
	case "watchEnded":
		l.ended <- told.Cursor
	}
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	socket, _, err := websocket.DefaultDialer.DialContext(ctx, os.Args[1], nil)
	check(err)
	heard := &listener{ended: make(chan string, 1)}
	client := jsonrpc2.NewConn(ctx, stream.NewObjectStream(socket), heard)
	call := func(method string, params any, options ...jsonrpc2.CallOption) object {
		var result object
		check(client.Call(ctx, method, params, &result, options...))
		return result
	}
	refused := func(method string, params any) int64 {
		err := client.Call(ctx, method, params, nil)
		var failure *jsonrpc2.Error
		if !errors.As(err, &failure) {
			log.Fatalf("%s was not refused: %v", method, err)
		}
		return failure.Code
	}

	var job, long object
	check(json.Unmarshal([]byte(os.Getenv("JOB")), &job))
	check(json.Unmarshal([]byte(os.Getenv("LONG_JOB")), &long))

	// Without parameters this client sends null, and its second identity is a string.
	version := call("version", nil)
	call("version", object{}, jsonrpc2.StringID())
	methods := call("rpc.discover", nil)["methods"].([]any)
	started := call("start", object{"requestor": "go", "jobDesc": job})
	call("watch", object{"requestor": "go", "jobID": started["Data"].(object)["JobID"]})
	cursor := <-heard.ended

	longID := call("start", object{"requestor": "go", "jobDesc": long})["Data"].(object)["JobID"]
	waits := make([]jsonrpc2.Waiter, 100)
	for index := range waits {
		waits[index], err = client.DispatchCall(ctx, "list", object{"requestor": "go"})
		check(err)
	}
	for _, each := range waits {
		check(each.Wait(ctx, nil))
	}
	check(client.Notify(ctx, "stop", object{"requestor": "go", "jobID": longID}))
	state := ""
	for state != "JobStateCancelled" {
		status := call("status", object{"requestor": "go", "jobID": longID})
		state = status["Data"].(object)["Status"].(object)["State"].(string)
	}

	said := object{
		"version": version["Data"].(object)["Version"],
		"methods": len(methods),
		"events":  heard.events,
		"cursor":  cursor,
		"unknown": refused("nope", object{}),
		"refused": refused("status", object{"requestor": "go", "jobID": 1000000}),
		"invalid": refused("status", []any{1}),
		"state":   state,
	}
	check(client.Close())
	check(json.NewEncoder(os.Stdout).Encode(said))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
