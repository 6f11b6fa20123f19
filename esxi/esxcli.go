package esxi

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"strings"

	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// A host runs esxcli commands over the API by methods that are in no published
// schema. The messages are those that govmomi's package cli/esx sends. That
// package asks for the description of a command first, which one without
// arguments does not need, and takes for granted that each answer holds
// something.

type retrieveManagedMethodExecuterBody struct {
	Req    *retrieveExecuter         `xml:"urn:vim25 RetrieveManagedMethodExecuter,omitempty"`
	Res    *retrieveExecuterResponse `xml:"RetrieveManagedMethodExecuterResponse,omitempty"`
	Fault_ *soap.Fault               `xml:"http://schemas.xmlsoap.org/soap/envelope/ Fault,omitempty"`
}

func (b *retrieveManagedMethodExecuterBody) Fault() *soap.Fault { return b.Fault_ }

type retrieveExecuter struct {
	This types.ManagedObjectReference `xml:"_this"`
}

type retrieveExecuterResponse struct {
	Returnval *types.ManagedObjectReference `xml:"returnval"`
}

type executeSoapBody struct {
	Req    *executeSoap         `xml:"urn:vim25 ExecuteSoap,omitempty"`
	Res    *executeSoapResponse `xml:"ExecuteSoapResponse,omitempty"`
	Fault_ *soap.Fault          `xml:"http://schemas.xmlsoap.org/soap/envelope/ Fault,omitempty"`
}

func (b *executeSoapBody) Fault() *soap.Fault { return b.Fault_ }

type executeSoap struct {
	This    types.ManagedObjectReference `xml:"_this"`
	Object  string                       `xml:"moid"`
	Version string                       `xml:"version"`
	Method  string                       `xml:"method"`
}

type executeSoapResponse struct {
	Returnval *struct {
		Response string `xml:"response"` // a document of its own
		Fault    *struct {
			Message string `xml:"faultMsg"`
			Detail  string `xml:"faultDetail"`
		} `xml:"fault"`
	} `xml:"returnval"`
}

// consoleLayout asks for what `esxcli system settings keyboard layout get`
// prints: the keymap by ESXi's name.
func consoleLayout(ctx context.Context, vim *vim25.Client, host types.ManagedObjectReference) (string, error) {
	layout, err := esxcliString(ctx, vim, host, "system", "settings", "keyboard", "layout", "get")
	if err != nil {
		return "", fmt.Errorf("esxcli system settings keyboard layout get: %w", err)
	}
	return layout, nil
}

// esxcliString runs a command that takes no arguments and answers with one
// value.
func esxcliString(ctx context.Context, vim *vim25.Client, host types.ManagedObjectReference, words ...string) (string, error) {
	ask := retrieveManagedMethodExecuterBody{Req: &retrieveExecuter{This: host}}
	var executer retrieveManagedMethodExecuterBody
	if err := vim.RoundTrip(ctx, &ask, &executer); err != nil {
		return "", err
	}
	if executer.Res == nil || executer.Res.Returnval == nil {
		return "", errors.New("the host names nobody who runs it")
	}
	call := executeSoapBody{Req: &executeSoap{
		This:    *executer.Res.Returnval,
		Object:  "ha-cli-handler-" + strings.Join(words[:len(words)-1], "-"),
		Version: "urn:vim25/5.0",
		Method:  "vim.EsxCLI." + strings.Join(words, "."),
	}}
	var answer executeSoapBody
	if err := vim.RoundTrip(ctx, &call, &answer); err != nil {
		return "", err
	}
	if answer.Res == nil || answer.Res.Returnval == nil {
		return "", errors.New("an empty answer")
	}
	r := answer.Res.Returnval
	if r.Fault != nil {
		return "", fmt.Errorf("the host refuses: %s", oneLine(r.Fault.Message))
	}
	var value struct {
		Text string `xml:",chardata"`
	}
	if err := xml.Unmarshal([]byte(r.Response), &value); err != nil {
		return "", fmt.Errorf("read the answer: %w", err)
	}
	text := strings.TrimSpace(value.Text)
	if text == "" {
		return "", errors.New("an answer without a value")
	}
	return text, nil
}
