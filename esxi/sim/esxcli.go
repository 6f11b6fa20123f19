package sim

import (
	"encoding/xml"
	"fmt"
	"reflect"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// What `esxcli system settings keyboard layout get` goes through over the API. vcsim has the machinery and not this
// command. Its types are internal to govmomi, so that they are met by reflection.

const (
	layoutSpace = "vim.EsxCLI.system.settings.keyboard.layout"
	consoleMap  = "US Default" // the layout of every console in the lab, by ESXi's name
)

// ExecuteSoap lets vcsim run the command and puts its own answer in the place of "not found" where it knows better.
func (a *api) ExecuteSoap(ctx *simulator.Context, req any) soap.HasFault {
	v := reflect.Indirect(reflect.ValueOf(req))
	this := v.FieldByName("This").Interface().(types.ManagedObjectReference)
	method := v.FieldByName("Method").String()
	own := a.reg.Get(this)
	run := reflect.ValueOf(own).MethodByName("ExecuteSoap")
	if !run.IsValid() {
		return notImplemented(this, "ExecuteSoap")
	}
	body := run.Call([]reflect.Value{reflect.ValueOf(ctx), reflect.ValueOf(req)})[0].Interface().(soap.HasFault)
	var answer string
	switch {
	case method == layoutSpace+".get":
		answer = fmt.Sprintf(`<obj xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="xsd:string">%s</obj>`, escaped(consoleMap))
	case method == "vim.CLIInfo.FetchCLIInfo" && strings.Contains(fmt.Sprint(v.FieldByName("Argument").Interface()), layoutSpace+"<"):
		answer = `<obj><name>system.settings.keyboard.layout</name><displayName>layout</displayName><help>Keyboard layout</help>` +
			`<method><name>get</name><displayName>get</displayName><help>Get the keyboard layout</help></method></obj>`
	default:
		return body
	}
	result := reflect.ValueOf(resultOf(body)).Elem()
	result.FieldByName("Fault").SetZero()
	result.FieldByName("Response").SetString(answer)
	return body
}

func escaped(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}

type refusedBody struct {
	Reason *soap.Fault `xml:"http://schemas.xmlsoap.org/soap/envelope/ Fault"`
}

func (b *refusedBody) Fault() *soap.Fault { return b.Reason }

func notImplemented(this types.ManagedObjectReference, method string) soap.HasFault {
	return &refusedBody{simulator.Fault("", &types.MethodNotFound{Receiver: this, Method: method})}
}
