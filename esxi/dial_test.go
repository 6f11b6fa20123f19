package esxi

import (
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"
)

func TestParseURL(t *testing.T) {
	for _, tc := range []struct{ in, url, user, err string }{
		{in: "nuc01", url: "https://nuc01/sdk"},
		{in: "root@nuc01", url: "https://nuc01/sdk", user: "root"},
		{in: "https://nuc01", url: "https://nuc01/sdk"},
		{in: "https://nuc01/", url: "https://nuc01/sdk"},
		{in: "https://nuc01/sdk/", url: "https://nuc01/sdk"},
		{in: "https://nuc01/vcenter/sdk", url: "https://nuc01/vcenter/sdk"},
		{in: "https://administrator%40vsphere.local@vcsa:8443", url: "https://vcsa:8443/sdk", user: "administrator@vsphere.local"},
		{in: "https://administrator@vsphere.local@vcsa", url: "https://vcsa/sdk", user: "administrator@vsphere.local"},
		{in: "https://[fe80::1]:8443", url: "https://[fe80::1]:8443/sdk"},
		{in: "HTTPS://nuc01", url: "https://nuc01/sdk"},
		{in: "https://nuc01/sdk?x=hunter2#hunter2", url: "https://nuc01/sdk"},
		{in: "http://root@nuc01", err: "scheme http"},
		{in: "ssh://pi@pi", err: "scheme ssh"},
		{in: "https://root:hunter2@nuc01", err: "password in a URL"},
		{in: "https://root:@nuc01", err: "password in a URL"},
		{in: "root:hunter2@nuc01", err: "password in a URL"},
		{in: "https://root:hunter2@nuc01:port", err: "not a URL"},
		{in: "https://root:hunter2@[nuc01", err: "not a URL"},
		{in: "https://root:hunter2%@nuc01", err: "not a URL"},
		{in: "", err: "names no host"},
		{in: "https://", err: "names no host"},
		{in: "https://root@", err: "names no host"},
		{in: "https://root@:8443/sdk", err: "names no host"},
		{in: "https://nuc 01", err: "not a URL"},
		{in: "https://nuc01\n", err: "not a URL"},
	} {
		u, user, err := ParseURL(tc.in)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) || u != nil {
				t.Errorf("%q: %v, %v; want an error with %q", tc.in, u, err, tc.err)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q: the error repeats the password: %v", tc.in, err)
			}
			continue
		}
		if err != nil || u.String() != tc.url || user != tc.user {
			t.Errorf("%q: %v, user %q, %v; want %s, user %q", tc.in, u, user, err, tc.url, tc.user)
		}
	}
}

func TestFaultWords(t *testing.T) {
	fault := func(f types.BaseMethodFault, message string, cause *types.LocalizedMethodFault) *types.LocalizedMethodFault {
		if cause != nil {
			f.GetMethodFault().FaultCause = cause
		}
		return &types.LocalizedMethodFault{Fault: f, LocalizedMessage: message}
	}
	timedOut := fault(&types.Timedout{}, "Transaction has rolled back on the host.", nil)
	for name, tc := range map[string]struct {
		fault      *types.LocalizedMethodFault
		kind, text string
	}{
		"none":              {nil, "", ""},
		"empty":             {&types.LocalizedMethodFault{}, "", "an unknown fault"},
		"without words":     {fault(&types.ResourceInUse{}, "", nil), "ResourceInUse", "ResourceInUse"},
		"with words":        {fault(&types.ResourceInUse{}, "The resource is in use.", nil), "ResourceInUse", "The resource is in use. (ResourceInUse)"},
		"named in words":    {fault(&types.ResourceInUse{}, "ResourceInUse: vmnic0", nil), "ResourceInUse", "ResourceInUse: vmnic0"},
		"on several lines":  {fault(&types.NotFound{}, "not\n\tfound ", nil), "NotFound", "not found (NotFound)"},
		"with a cause":      {fault(&types.DvsFault{}, "vDS host error: see faultCause", timedOut), "DvsFault", "vDS host error: see faultCause (DvsFault): Transaction has rolled back on the host. (Timedout)"},
		"causes all down":   {fault(&types.HostConfigFault{}, "a", fault(&types.DvsFault{}, "b", timedOut)), "HostConfigFault", "a (HostConfigFault): b (DvsFault): Transaction has rolled back on the host. (Timedout)"},
		"caused by itself":  {fault(&types.NotFound{}, "x", fault(&types.NotFound{}, "x", nil)), "NotFound", "x (NotFound)"},
		"platform's reason": {fault(&types.PlatformConfigFault{Text: "Unable to set beacon"}, "An error occurred.", nil), "PlatformConfigFault", "An error occurred. (PlatformConfigFault): Unable to set beacon"},
		"system's reason":   {fault(&types.SystemError{Reason: "Transaction has rolled back on the host"}, "A general system error occurred.", nil), "SystemError", "A general system error occurred. (SystemError): Transaction has rolled back on the host"},
		"reason said twice": {fault(&types.SystemError{Reason: "rolled back"}, "A general system error occurred: rolled back", nil), "SystemError", "A general system error occurred: rolled back (SystemError)"},
		"which argument":    {fault(&types.InvalidArgument{InvalidProperty: "spec.mtu"}, "A specified parameter was not correct.", nil), "InvalidArgument", "A specified parameter was not correct. (InvalidArgument): spec.mtu"},
		"of a host": {fault(&types.DvsOperationBulkFault{HostFault: []types.DvsOperationBulkFaultFaultOnHost{{Fault: *timedOut}}}, "Cannot complete it for one or more host members.", nil),
			"DvsOperationBulkFault", "Cannot complete it for one or more host members. (DvsOperationBulkFault): Transaction has rolled back on the host. (Timedout)"},
	} {
		kind, text := FaultWords(tc.fault)
		if kind != tc.kind || text != tc.text {
			t.Errorf("%s: %q, %q; want %q, %q", name, kind, text, tc.kind, tc.text)
		}
	}
	// Faults of SOAP answers arrive by value, those of tasks by pointer.
	byValue := types.HostConfigFault{VimFault: types.VimFault{MethodFault: types.MethodFault{FaultCause: timedOut}}}
	if _, text := faultWords(byValue, "m"); text != "m (HostConfigFault): Transaction has rolled back on the host. (Timedout)" {
		t.Errorf("by value: %q", text)
	}
	if _, text := faultWords(nil, strings.Repeat("x", 1000)); len([]rune(text)) > 201 {
		t.Errorf("a line of %d characters", len([]rune(text)))
	}
}
