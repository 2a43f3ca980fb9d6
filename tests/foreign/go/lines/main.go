// Asks a server over JSON lines with github.com/creachadair/jrpc2, and prints what came as one JSON object.
//
// The arguments are the server's command. It ends by closing the server's input, and fails unless that exits with 0.
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"
	"os/exec"
	"time"

	"github.com/creachadair/jrpc2"
	"github.com/creachadair/jrpc2/channel"
)

type object = map[string]any

// What a watch tells. This client hands every message on in a goroutine of its own, so notifications, the last one
// too, come in any order: the numbers of the events and the cursor of the end put that right.
type watch struct {
	names   map[int]string
	numbers map[string]int // by cursor
	end     string
	done    chan struct{}
}

func (w *watch) hear(request *jrpc2.Request) {
	var told struct {
		Event struct {
			SequenceID int
			Cursor     string
			Data       struct{ EventName string }
		}
		Cursor string
	}
	check(request.UnmarshalParams(&told))
	if request.Method() == "event" {
		w.names[told.Event.SequenceID] = told.Event.Data.EventName
		w.numbers[told.Event.Cursor] = told.Event.SequenceID
	} else {
		w.end = told.Cursor
	}
	if last, here := w.numbers[w.end]; here && len(w.names) == last {
		close(w.done)
	}
}

func (w *watch) inOrder() []string {
	var names []string
	for number := range len(w.names) {
		names = append(names, w.names[number+1])
	}
	return names
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	server := exec.CommandContext(ctx, os.Args[1], os.Args[2:]...)
	server.Stderr = os.Stderr
	input, err := server.StdinPipe()
	check(err)
	output, err := server.StdoutPipe()
	check(err)
	check(server.Start())

	watched := &watch{names: map[int]string{}, numbers: map[string]int{}, done: make(chan struct{})}
	client := jrpc2.NewClient(channel.Line(output, input), &jrpc2.ClientOptions{OnNotify: watched.hear})
	call := func(method string, params any) object {
		var result object
		check(client.CallResult(ctx, method, params, &result))
		return result
	}
	refused := func(method string, params any) int {
		_, err := client.Call(ctx, method, params)
		failure, ok := err.(*jrpc2.Error)
		if !ok {
			log.Fatalf("%s was not refused: %v", method, err)
		}
		return int(failure.Code)
	}

	var job object
	check(json.Unmarshal([]byte(os.Getenv("JOB")), &job))
	var long object
	check(json.Unmarshal([]byte(os.Getenv("LONG_JOB")), &long))

	version := call("version", nil)
	methods := call("rpc.discover", nil)["methods"].([]any)
	started := call("start", object{"requestor": "go", "jobDesc": job})
	id := started["Data"].(object)["JobID"]
	call("watch", object{"requestor": "go", "jobID": id})
	<-watched.done

	longID := call("start", object{"requestor": "go", "jobDesc": long})["Data"].(object)["JobID"]
	batch, err := client.Batch(ctx, []jrpc2.Spec{
		{Method: "version"},
		{Method: "stop", Params: object{"requestor": "go", "jobID": longID}, Notify: true},
		{Method: "status", Params: object{"requestor": "go", "jobID": 1000000}},
		{Method: "list", Params: object{"requestor": "go"}},
	})
	check(err)
	var answered []string
	for _, response := range batch {
		var answer object
		if response.Error() != nil {
			answered = append(answered, response.Error().Code.String())
		} else {
			check(response.UnmarshalResult(&answer))
			answered = append(answered, answer["Type"].(string))
		}
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
		"events":  watched.inOrder(),
		"cursor":  watched.end,
		"unknown": refused("nope", object{}),
		"refused": refused("status", object{"requestor": "go", "jobID": 1000000}),
		"invalid": refused("status", []any{1}),
		"batch":   answered,
		"state":   state,
	}
	check(client.Close())
	check(server.Wait())
	check(json.NewEncoder(os.Stdout).Encode(said))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
