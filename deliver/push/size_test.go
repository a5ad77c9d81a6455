package push

import (
	"reflect"
	"testing"
)

// What every idle session costs is small, and nothing for the collector to
// follow. The figures are DESIGN.md's.
func TestIdleSizes(t *testing.T) {
	for _, tt := range []struct {
		what any
		most uintptr
	}{{session{}, 40}, {reader{}, 32}, {member{}, 20}} {
		typ := reflect.TypeOf(tt.what)
		if got := typ.Size(); got > tt.most {
			t.Errorf("%v has %d bytes, want at most %d", typ, got, tt.most)
		}
		for i := range typ.NumField() {
			if k := typ.Field(i).Type.Kind(); k == reflect.Pointer || k == reflect.Slice || k == reflect.String || k == reflect.Map || k == reflect.Interface {
				t.Errorf("%v.%s is a %v, which has a pointer", typ, typ.Field(i).Name, k)
			}
		}
	}
}
