// A backend that knows its callers. It believes the headers because it listens on loopback only, where nobody but the
// gateway can connect. Run it by `go run examples/backend.go`.
package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log"
	"mime"
	"net"
	"net/http"
	"os"
)

const capability = "example.com/cap/app"

type caller struct {
	Kind  string            `json:"kind"`
	Login string            `json:"login"`
	Name  string            `json:"name"`
	May   []json.RawMessage `json:"may"`
}

func answer(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	kind := r.Header.Get("Sallyport-Caller-Kind")
	if kind == "" {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"error":"not through the gateway"}`)
		return
	}
	capabilities := map[string][]json.RawMessage{}
	if text := r.Header.Get("Tailscale-App-Capabilities"); text != "" {
		if err := json.Unmarshal([]byte(text), &capabilities); err != nil {
			w.WriteHeader(http.StatusForbidden)
			return
		}
	}
	name := r.Header.Get("Tailscale-User-Name")
	// Decoded only to be shown. The login is compared as it stands: one that is not ASCII is an RFC 2047 word.
	if decoded, err := new(mime.WordDecoder).DecodeHeader(name); err == nil {
		name = decoded
	}
	may := capabilities[capability]
	if may == nil {
		may = []json.RawMessage{}
	}
	_ = json.NewEncoder(w).Encode(caller{kind, r.Header.Get("Tailscale-User-Login"), name, may})
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:"+cmp.Or(os.Getenv("PORT"), "3000"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("http://%s\n", listener.Addr())
	log.Fatal(http.Serve(listener, http.HandlerFunc(answer)))
}
